//! The leadership row.
//!
//! PostgreSQL: a lease by the database's clock, so that no server's clock matters. SQLite: whoever has the lock
//! file leads; the row only counts terms and remembers whether the last leader said goodbye.

use std::time::Duration;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter, Statement,
    sea_query::Expr,
};

use super::{SqlStore, entity, expiry, fault, multi::upsert, now_sql, rows};
use crate::{
    access::Session,
    batch::BatchId,
    error::{CommitError, LeadershipError},
    writer::{LEADER_LEASE, Leadership},
};

fn lease(backend: DbBackend) -> Option<Duration> {
    (backend == DbBackend::Postgres).then_some(LEADER_LEASE)
}

struct Leader {
    holder: String,
    url: String,
    term: i64,
    /// Left of the lease, in microseconds; negative when it is over.
    left: i64,
}

async fn locked_leader(db: &DatabaseTransaction) -> Result<Leader, DbErr> {
    let lock = if db.get_database_backend() == DbBackend::Postgres { " FOR UPDATE" } else { "" };
    read_leader(db, lock).await
}

async fn read_leader(db: &impl ConnectionTrait, lock: &str) -> Result<Leader, DbErr> {
    let backend = db.get_database_backend();
    let sql = format!(
        "SELECT holder, url, term, expires_at - {} AS time_left FROM leader WHERE id = 1{lock}",
        now_sql(backend)
    );
    let row = db.query_one_raw(Statement::from_string(backend, sql)).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("leader".to_owned()))?;
    Ok(Leader {
        holder: row.try_get_by_index(0)?,
        url: row.try_get_by_index(1)?,
        term: row.try_get_by_index(2)?,
        left: row.try_get_by_index(3)?,
    })
}

impl Leader {
    /// Whether somebody leads under a lease that has not ended.
    fn is_held(&self) -> bool {
        !self.holder.is_empty() && self.left > 0
    }

    fn held(self) -> LeadershipError {
        LeadershipError::Held {
            holder: self.holder,
            url: self.url,
            term: self.term,
            expires_in: u64::try_from(self.left).ok().map(Duration::from_micros),
        }
    }
}

pub(super) async fn take(store: &SqlStore, holder: &str, url: &str) -> Result<Leadership, LeadershipError> {
    let connection = store.writer.read().await.clone();
    if connection.get_database_backend() == DbBackend::Postgres {
        // A stand-by asks every second. It must not lock the row that every commit of the leader needs.
        let leader = read_leader(&connection, "").await.map_err(fault::before_commit)?;
        if leader.is_held() {
            return Err(leader.held());
        }
    }
    let db = store.begin().await?;
    let backend = db.get_database_backend();
    let leader = match locked_leader(&db).await {
        Ok(leader) => leader,
        Err(error) => {
            store.roll_back(db).await;
            return Err(fault::before_commit(error).into());
        }
    };
    let was_abandoned = !leader.holder.is_empty();
    if backend == DbBackend::Postgres && leader.is_held() {
        store.roll_back(db).await;
        return Err(leader.held());
    }
    let term = leader.term + 1;
    let sql = format!(
        "UPDATE leader SET holder = $1, url = $2, term = $3, batch_id = 0, expires_at = {} WHERE id = 1",
        expiry(backend)
    );
    let values = [holder.into(), url.into(), term.into()];
    if let Err(error) = db.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await {
        store.roll_back(db).await;
        return Err(fault::before_commit(error).into());
    }
    store.finish(db, BatchId::default()).await?;
    Ok(Leadership { term, lease: lease(backend), was_abandoned })
}

pub(super) async fn renew(store: &SqlStore, term: i64) -> Result<Leadership, CommitError> {
    let db = store.writer.read().await.clone();
    let backend = db.get_database_backend();
    let sql = format!(
        "UPDATE leader SET expires_at = {} WHERE id = 1 AND term = $1 AND holder <> ''",
        expiry(backend)
    );
    let statement = Statement::from_sql_and_values(backend, sql, [term.into()]);
    let result = db.execute_raw(statement).await.map_err(fault::before_commit)?;
    if result.rows_affected() == 0 {
        return Err(CommitError::TermLost { term });
    }
    Ok(Leadership { term, lease: lease(backend), was_abandoned: false })
}

pub(super) async fn release(store: &SqlStore, term: i64) -> Result<(), CommitError> {
    let db = store.writer.read().await.clone();
    let sql = "UPDATE leader SET holder = '', url = '', expires_at = 0 WHERE id = 1 AND term = $1";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [term.into()]);
    db.execute_raw(statement).await.map(|_| ()).map_err(fault::before_commit)
}

pub(super) async fn was_committed(store: &SqlStore, term: i64, batch: BatchId) -> Result<bool, CommitError> {
    // Through the writer: it queues behind a commit that is still being settled.
    let db = store.writer.read().await.clone();
    let leader = entity::leader::Entity::find_by_id(1).one(&db).await.map_err(fault::before_commit)?;
    match leader.filter(|leader| leader.term == term) {
        Some(leader) => Ok(leader.batch_id == batch.0),
        None => Err(CommitError::TermLost { term }),
    }
}

pub(super) async fn redeem_login_link(
    store: &SqlStore,
    term: i64,
    hash: &str,
    session: &Session,
) -> Result<bool, CommitError> {
    let db = store.begin().await?;
    let result = async {
        let leader = locked_leader(&db).await.map_err(fault::before_commit)?;
        if leader.term != term || leader.holder.is_empty() {
            return Err(CommitError::TermLost { term });
        }
        redeem(&db, hash, session).await.map_err(fault::before_commit)
    };
    match result.await {
        Ok(true) => store.finish(db, BatchId::default()).await.map(|()| true),
        other => {
            store.roll_back(db).await;
            other
        }
    }
}

async fn redeem(db: &DatabaseTransaction, hash: &str, session: &Session) -> Result<bool, DbErr> {
    use entity::login_link::{Column, Entity};
    let at = rows::micros(session.created_at);
    let used = Entity::update_many()
        .col_expr(Column::UsedAt, Expr::value(at))
        .filter(Column::Hash.eq(hash))
        .filter(Column::UsedAt.is_null())
        .filter(Column::ExpiresAt.gt(at))
        .exec(db)
        .await?;
    if used.rows_affected == 1 {
        upsert::<entity::session::Entity>(db, vec![rows::session_model(session)]).await?;
        super::commit::write_audit(db, &[session.begun()]).await?;
    }
    Ok(used.rows_affected == 1)
}
