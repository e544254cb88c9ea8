//! What people and machines may do, once for the API and the pages: check, call the handle, leave a trace.

use std::collections::{BTreeMap, btree_map::Entry};

use chrono::{TimeDelta, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};
use tidemill_engine::{
    action::Changed,
    event::ClearSelection,
    ids::{AssetName, DagId, PoolName, RunId, TaskId, WorkerId},
    rows::{PoolRow, RunRow},
    state::{RunState, TaskState},
};
use tidemill_protocol::worker::Token;
use tidemill_scheduler::{
    AdminWrite, AssetPost, ClearRequest, IdempotencyKey, MarkRequest, PostedEvent, TriggerRequest, Triggered,
    random_suffix, random_token, token_hash,
};
use tidemill_store::access::{AccessChange, ApiToken, JoinToken, LoginLink, Role, WorkerKey};

use crate::{
    auth::{Identity, Joining},
    error::{Problem, Result},
    state::WebState,
    views::{
        AssetEventBody, ChangesView, ClearBody, LoginLinkBody, MarkBody, PoolBody, TokenBody, TriggerBody,
    },
};

/// How long a login link works.
const LOGIN_LINK_LIFETIME: TimeDelta = TimeDelta::minutes(15);
/// How long a join token works.
const JOIN_TOKEN_LIFETIME: TimeDelta = TimeDelta::hours(1);

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new("WEB0206", detail)
}

fn task_ids(names: &[String]) -> Result<Vec<TaskId>> {
    names.iter().map(|name| TaskId::new(name).map_err(|e| invalid(format!("task {name:?} {e}")))).collect()
}

fn run_subject(run: &RunRow) -> String {
    format!("run/{}/{}", run.dag_id, run.run_id)
}

/// Triggers a run. `key` is the `Idempotency-Key` header.
pub(crate) async fn trigger(
    state: &WebState,
    who: &Identity,
    dag_id: DagId,
    body: TriggerBody,
    key: Option<&str>,
) -> Result<Triggered> {
    let run_id = match body.run_id.as_deref() {
        Some(text) => Some(RunId::new(text).map_err(|e| invalid(format!("run_id {e}")))?),
        None => None,
    };
    let route = format!("/dags/{dag_id}/runs");
    let request = json!([body.conf, body.logical_date, body.run_id]).to_string();
    let idempotency = key.map(|key| idempotency(who, &route, key, &request)).transpose()?;
    let detail = json!({ "conf": body.conf, "logical_date": body.logical_date, "run_id": body.run_id });
    let side = AdminWrite::audit(who.did("run.trigger", format!("dag/{dag_id}"), detail));
    let request = TriggerRequest {
        dag_id,
        run_id,
        logical_date: body.logical_date,
        conf: body.conf,
        triggered_by: Some(who.actor.clone()),
        idempotency,
    };
    Ok(state.handle().trigger(request, side).await?)
}

/// Posts an event on an asset. `key` is the `Idempotency-Key` header.
pub(crate) async fn post_asset_event(
    state: &WebState,
    who: &Identity,
    body: AssetEventBody,
    key: Option<&str>,
) -> Result<PostedEvent> {
    let asset =
        AssetName::new(&body.asset).map_err(|e| invalid(format!("asset {:?}: it {e}", body.asset)))?;
    let request = json!([asset, body.extra]).to_string();
    let idempotency = key.map(|key| idempotency(who, "/assets/events", key, &request)).transpose()?;
    let side = AdminWrite::audit(who.did("asset.emit", format!("asset/{asset}"), json!({})));
    let post = AssetPost { asset, extra: body.extra, by: Some(who.actor.clone()), idempotency };
    Ok(state.handle().post_asset_event(post, side).await?)
}

fn idempotency(who: &Identity, route: &str, key: &str, request: &str) -> Result<IdempotencyKey> {
    if key.is_empty() || key.len() > 255 || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::new("WEB0202", "Idempotency-Key must be 1 to 255 visible ASCII characters"));
    }
    let hash = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
    Ok(IdempotencyKey {
        key_hash: hash(&format!("{}\n{route}\n{key}", who.actor)),
        request_hash: hash(request),
    })
}

/// Pauses or unpauses a DAG.
pub(crate) async fn pause(state: &WebState, who: &Identity, dag_id: DagId, is_paused: bool) -> Result<()> {
    let action = if is_paused { "dag.pause" } else { "dag.unpause" };
    let side = AdminWrite::audit(who.did(action, format!("dag/{dag_id}"), json!({})));
    Ok(state.handle().pause(dag_id, is_paused, side).await?)
}

/// Deletes a DAG whose file is gone.
pub(crate) async fn delete_dag(state: &WebState, who: &Identity, dag_id: DagId) -> Result<()> {
    let side = AdminWrite::audit(who.did("dag.delete", format!("dag/{dag_id}"), json!({})));
    Ok(state.handle().delete_dag(dag_id, side).await?)
}

/// Clears task instances, or says which ones it would.
pub(crate) async fn clear(
    state: &WebState,
    who: &Identity,
    run: &RunRow,
    body: &ClearBody,
) -> Result<Vec<Changed>> {
    let selection = ClearSelection {
        tasks: task_ids(&body.tasks)?,
        map_index: body.map_index,
        upstream: body.upstream,
        downstream: body.downstream,
        only_failed: body.only_failed,
    };
    let detail = json!({ "tasks": body.tasks, "map_index": body.map_index, "upstream": body.upstream, "downstream": body.downstream,
        "only_failed": body.only_failed, "past": body.past, "future": body.future, "latest": body.latest });
    let side = side_of(who, body.dry_run, "run.clear", run, detail);
    let request = ClearRequest {
        run: run.key,
        selection,
        past: body.past,
        future: body.future,
        is_dry_run: body.dry_run,
        latest: body.latest,
    };
    Ok(state.handle().clear(request, side).await?)
}

/// Says what changed, or would, with the names of the runs that it changed in.
pub(crate) async fn changes(
    state: &WebState,
    run: &RunRow,
    changed: Vec<Changed>,
    is_dry_run: bool,
) -> Result<ChangesView> {
    let mut runs = BTreeMap::from([(run.key, run.run_id.clone())]);
    for change in &changed {
        if let Entry::Vacant(place) = runs.entry(change.run)
            && let Some(other) = state.reader().run_by_key(change.run).await?
        {
            place.insert(other.run_id);
        }
    }
    Ok(ChangesView::of(changed, &runs, is_dry_run))
}

fn side_of(
    who: &Identity,
    is_dry_run: bool,
    action: &str,
    run: &RunRow,
    detail: serde_json::Value,
) -> AdminWrite {
    // Looking at what would happen leaves no trace.
    if is_dry_run {
        AdminWrite::default()
    } else {
        AdminWrite::audit(who.did(action, run_subject(run), detail))
    }
}

/// Gives tasks, or the run itself, a verdict by hand.
pub(crate) async fn mark(
    state: &WebState,
    who: &Identity,
    run: &RunRow,
    body: &MarkBody,
) -> Result<Vec<Changed>> {
    let detail = json!({ "tasks": body.tasks, "map_index": body.map_index, "state": body.state });
    let side = side_of(who, body.dry_run, "run.mark", run, detail);
    if body.tasks.is_empty() {
        let to = RunState::parse(&body.state)
            .filter(|s| matches!(s, RunState::Success | RunState::Failed))
            .ok_or_else(|| invalid("state must be success or failed"))?;
        if body.dry_run {
            return Ok(state.handle().would_mark_run(run.key, to).await?);
        }
        return Ok(state.handle().mark_run(run.key, to, side).await?);
    }
    let to = TaskState::parse(&body.state)
        .filter(|s| matches!(s, TaskState::Success | TaskState::Failed))
        .ok_or_else(|| invalid("state must be success or failed"))?;
    let request = MarkRequest {
        run: run.key,
        tasks: task_ids(&body.tasks)?,
        map_index: body.map_index,
        state: to,
        is_dry_run: body.dry_run,
    };
    Ok(state.handle().mark_task(request, side).await?)
}

/// Cancels a run, or says what that would change.
pub(crate) async fn cancel(
    state: &WebState,
    who: &Identity,
    run: &RunRow,
    is_dry_run: bool,
) -> Result<Vec<Changed>> {
    if is_dry_run {
        return Ok(state.handle().would_cancel(run.key).await?);
    }
    let side = side_of(who, false, "run.cancel", run, json!({}));
    Ok(state.handle().cancel(run.key, side).await?)
}

/// Lets a parked run go on, or says what that would change.
pub(crate) async fn resume(
    state: &WebState,
    who: &Identity,
    run: &RunRow,
    is_dry_run: bool,
) -> Result<Vec<Changed>> {
    if is_dry_run {
        return Ok(state.handle().would_resume(run.key).await?);
    }
    let side = side_of(who, false, "run.resume", run, json!({}));
    Ok(state.handle().resume(run.key, side).await?)
}

/// Makes or resizes a pool.
pub(crate) async fn set_pool(state: &WebState, who: &Identity, name: PoolName, body: PoolBody) -> Result<()> {
    let detail = json!({ "slots": body.slots, "description": body.description });
    let side = AdminWrite::audit(who.did("pool.set", format!("pool/{name}"), detail));
    let pool = PoolRow { name, slots: body.slots, description: body.description };
    Ok(state.handle().set_pool(pool, side).await?)
}

/// Deletes a pool.
pub(crate) async fn delete_pool(state: &WebState, who: &Identity, name: PoolName) -> Result<()> {
    let side = AdminWrite::audit(who.did("pool.delete", format!("pool/{name}"), json!({})));
    Ok(state.handle().delete_pool(name, side).await?)
}

fn is_name(name: &str) -> bool {
    (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

fn secret() -> Result<(Token, String)> {
    let token = random_token().map_err(|e| Problem::internal(&e))?;
    let id = random_suffix().map_err(|e| Problem::internal(&e))?;
    Ok((token, id))
}

/// Makes an API token.
pub(crate) async fn create_token(
    state: &WebState,
    who: &Identity,
    body: &TokenBody,
) -> Result<(ApiToken, Token)> {
    let role = Role::parse(&body.role).ok_or_else(|| invalid("role must be viewer, operator or admin"))?;
    let name = body.name.trim();
    if !is_name(name) {
        return Err(invalid("name must be 1 to 100 characters without controls"));
    }
    let now = Utc::now();
    let (secret, id) = secret()?;
    let token = ApiToken {
        id: format!("tok_{id}"),
        name: name.to_owned(),
        role,
        hash: token_hash(&secret),
        created_by: who.actor.clone(),
        created_at: now,
        expires_at: body.days.map(|days| now + TimeDelta::days(i64::from(days))),
        revoked_at: None,
    };
    let entry = who.did("token.create", format!("token/{}", token.id), json!({ "name": name, "role": role }));
    let write = AdminWrite::access(AccessChange::Token(token.clone())).with_audit(entry);
    state.handle().write(write).await?;
    Ok((token, secret))
}

/// Revokes an API token or a join token.
pub(crate) async fn revoke_token(state: &WebState, who: &Identity, id: &str) -> Result<()> {
    let now = Utc::now();
    let tokens = state.reader().api_tokens().await?;
    let change = match tokens.into_iter().find(|token| token.id == id) {
        Some(token) => AccessChange::Token(ApiToken { revoked_at: Some(now), ..token }),
        None => {
            let joins = state.reader().join_tokens().await?;
            let token = joins.into_iter().find(|token| token.id == id);
            let token = token.ok_or_else(|| Problem::not_found("such token"))?;
            AccessChange::JoinToken(JoinToken { revoked_at: Some(now), ..token })
        }
    };
    let entry = who.did("token.revoke", format!("token/{id}"), json!({}));
    Ok(state.handle().write(AdminWrite::access(change).with_audit(entry)).await?)
}

/// Makes a join token for workers.
pub(crate) async fn create_join_token(state: &WebState, who: &Identity) -> Result<(JoinToken, Token)> {
    let now = Utc::now();
    let (secret, id) = secret()?;
    let token = JoinToken {
        id: format!("join_{id}"),
        hash: token_hash(&secret),
        created_by: who.actor.clone(),
        created_at: now,
        expires_at: Some(now + JOIN_TOKEN_LIFETIME),
        revoked_at: None,
    };
    let entry = who.did("join_token.create", format!("token/{}", token.id), json!({}));
    let write = AdminWrite::access(AccessChange::JoinToken(token.clone())).with_audit(entry);
    state.handle().write(write).await?;
    Ok((token, secret))
}

/// Returns whom a login link signs in. What a token of a lesser role makes is bound to that token, because its sessions
/// must end when it is revoked; see [`crate::auth::identify`].
fn link_actor(who: &Identity, name: Option<&str>) -> Result<String> {
    let is_admin = who.role == Role::Admin;
    match name.map(str::trim) {
        Some(name) if !is_admin => {
            Err(Problem::new("WEB0102", format!("only an admin makes a login link for {name:?}")))
        }
        Some(name) if is_name(name) && !name.contains(':') => Ok(name.to_owned()),
        Some(_) => Err(invalid("name must be 1 to 100 characters without controls and colons")),
        None if is_admin => Ok(who.actor.strip_prefix("token:").unwrap_or(&who.actor).to_owned()),
        // Who is signed in would prolong their session with it, for ever.
        None if who.session.is_some() => {
            Err(Problem::new("WEB0102", "a session makes login links only for an admin"))
        }
        None => Ok(who.actor.clone()),
    }
}

/// Makes a login link with at most the role of the one who asks.
pub(crate) async fn create_login_link(
    state: &WebState,
    who: &Identity,
    body: &LoginLinkBody,
) -> Result<(LoginLink, Token)> {
    let role = match body.role.as_deref() {
        Some(word) => Role::parse(word).ok_or_else(|| invalid("role must be viewer, operator or admin"))?,
        None => who.role,
    };
    if role > who.role {
        return Err(Problem::new("WEB0102", format!("{} has the role {}, not {role}", who.actor, who.role)));
    }
    let now = Utc::now();
    let actor = link_actor(who, body.name.as_deref())?;
    let (secret, _) = secret()?;
    let link = LoginLink {
        hash: token_hash(&secret),
        actor,
        role,
        created_at: now,
        expires_at: now + LOGIN_LINK_LIFETIME,
        used_at: None,
    };
    let entry = who.did("login_link.create", format!("person/{}", link.actor), json!({ "role": link.role }));
    let write = AdminWrite::access(AccessChange::LoginLink(link.clone())).with_audit(entry);
    state.handle().write(write).await?;
    Ok((link, secret))
}

/// Refuses a name under which another worker is connected: a join token is for new workers, and with it nobody may push a
/// live one aside and get the tasks that are leased to it. An admin can, by revoking the key first.
async fn check_name(state: &WebState, worker: &WorkerId) -> Result<()> {
    let is_connected = state.handle().workers().await?.iter().any(|known| known.worker == *worker);
    if is_connected && state.reader().has_worker_key(worker).await? {
        let detail = format!(
            "{worker} is connected with a key of its own; choose another name, wait until it is gone or revoke its key"
        );
        return Err(Problem::new("WEB0108", detail));
    }
    Ok(())
}

/// Gives a joining worker its key; every older key of that name stops working.
pub(crate) async fn join(state: &WebState, joining: &Joining, worker: WorkerId) -> Result<Token> {
    check_name(state, &worker).await?;
    let now = Utc::now();
    let (secret, _) = secret()?;
    let key =
        WorkerKey { hash: token_hash(&secret), worker: worker.clone(), created_at: now, revoked_at: None };
    let who = Identity { actor: format!("join:{}", joining.0.id), role: Role::Viewer, session: None };
    let mut write = AdminWrite::access(AccessChange::RevokeWorker { worker: worker.clone(), at: now });
    write.access.push(AccessChange::WorkerKey(key));
    write.audit.push(who.did("worker.join", format!("worker/{worker}"), json!({})));
    state.handle().write(write).await?;
    Ok(secret)
}

/// Makes every key of a worker stop working.
pub(crate) async fn revoke_worker(state: &WebState, who: &Identity, worker: WorkerId) -> Result<()> {
    let entry = who.did("worker.revoke", format!("worker/{worker}"), json!({}));
    let change = AccessChange::RevokeWorker { worker, at: Utc::now() };
    Ok(state.handle().write(AdminWrite::access(change).with_audit(entry)).await?)
}
