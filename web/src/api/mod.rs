//! The REST API under `/api/v1`, one file per resource.

pub(crate) mod access;
pub(crate) mod assets;
pub(crate) mod backfills;
pub(crate) mod clean;
pub(crate) mod dags;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod instances;
pub(crate) mod logs;
pub(crate) mod openapi;
pub(crate) mod pools;
pub(crate) mod runs;
pub(crate) mod vault;
pub(crate) mod worker;

use crate::{
    access::{ADMIN, Access, Method, OPERATOR, Table, VIEWER},
    meters,
};

/// Mounts the API.
pub(crate) fn mount(table: Table) -> Table {
    use Method::{Delete, Patch, Put};
    mount_runs(table)
        .get("/api/v1/health", Access::Public, health::health)
        .get("/api/v1/openapi.json", VIEWER, openapi::serve)
        .get("/metrics", VIEWER, meters::metrics)
        .get("/api/v1/events", VIEWER, events::stream)
        .get("/api/v1/dags", VIEWER, dags::list)
        .get("/api/v1/dags/{dag_id}", VIEWER, dags::show)
        .mount(Patch, "/api/v1/dags/{dag_id}", OPERATOR, dags::patch)
        .mount(Delete, "/api/v1/dags/{dag_id}", ADMIN, dags::delete)
        .get("/api/v1/dags/{dag_id}/source", VIEWER, dags::source)
        .get("/api/v1/dags/{dag_id}/versions", VIEWER, dags::versions)
        .get("/api/v1/import_errors", VIEWER, dags::import_errors)
        .get("/api/v1/pools", VIEWER, pools::list)
        .get("/api/v1/pools/{name}", VIEWER, pools::show)
        .mount(Put, "/api/v1/pools/{name}", ADMIN, pools::put)
        .mount(Delete, "/api/v1/pools/{name}", ADMIN, pools::delete)
        .get("/api/v1/variables", VIEWER, vault::variables)
        .get("/api/v1/variables/{name}", VIEWER, vault::variable)
        .mount(Put, "/api/v1/variables/{name}", ADMIN, vault::put_variable)
        .mount(Delete, "/api/v1/variables/{name}", ADMIN, vault::delete_variable)
        .get("/api/v1/connections", VIEWER, vault::connections)
        .get("/api/v1/connections/{id}", VIEWER, vault::connection)
        .mount(Put, "/api/v1/connections/{id}", ADMIN, vault::put_connection)
        .mount(Delete, "/api/v1/connections/{id}", ADMIN, vault::delete_connection)
        .post("/api/v1/seal", ADMIN, vault::seal)
        .get("/api/v1/workers", VIEWER, access::workers)
        .mount(Delete, "/api/v1/workers/{worker}", ADMIN, access::revoke_worker)
        .get("/api/v1/tokens", ADMIN, access::tokens)
        .post("/api/v1/tokens", ADMIN, access::create_token)
        .mount(Delete, "/api/v1/tokens/{id}", ADMIN, access::revoke_token)
        .get("/api/v1/join_tokens", ADMIN, access::join_tokens)
        .post("/api/v1/join_tokens", ADMIN, access::create_join_token)
        .post("/api/v1/login_links", VIEWER, access::create_login_link)
        .get("/api/v1/audit", ADMIN, access::audit)
        .post("/api/v1/clean", ADMIN, clean::clean)
        .post("/worker/v1/join", Access::Join, worker::join)
        .post("/worker/v1/exchange", Access::Worker, worker::exchange)
        .post("/worker/v1/heartbeat", Access::Worker, worker::heartbeat)
        .post("/worker/v1/started", Access::Worker, worker::started)
        .mount(Put, "/worker/v1/log", Access::Attempt, worker::append_log)
}

/// Mounts what is asked of runs and their task instances.
fn mount_runs(table: Table) -> Table {
    table
        .get("/api/v1/runs", VIEWER, runs::all)
        .get("/api/v1/dags/{dag_id}/runs", VIEWER, runs::list)
        .post("/api/v1/dags/{dag_id}/runs", OPERATOR, runs::trigger)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}", VIEWER, runs::show)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}/explain", VIEWER, runs::explain)
        .post("/api/v1/dags/{dag_id}/runs/{run_id}/cancel", OPERATOR, runs::cancel)
        .post("/api/v1/dags/{dag_id}/runs/{run_id}/resume", OPERATOR, runs::resume)
        .post("/api/v1/dags/{dag_id}/runs/{run_id}/clear", OPERATOR, runs::clear)
        .post("/api/v1/dags/{dag_id}/runs/{run_id}/mark", OPERATOR, runs::mark)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}/tasks", VIEWER, instances::list)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}", VIEWER, instances::show)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/explain", VIEWER, instances::explain)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/outputs", VIEWER, instances::outputs)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/report", VIEWER, instances::report)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries", VIEWER, instances::tries)
        .get(
            "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries/{try_number}/rendered",
            VIEWER,
            instances::rendered,
        )
        .get(
            "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries/{try_number}/log",
            VIEWER,
            logs::range,
        )
        .get(
            "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries/{try_number}/log/events",
            VIEWER,
            logs::follow,
        )
        .get("/api/v1/assets", VIEWER, assets::list)
        .get("/api/v1/assets/events", VIEWER, assets::events)
        .post("/api/v1/assets/events", OPERATOR, assets::post)
        .get("/api/v1/dags/{dag_id}/assets", VIEWER, assets::of_dag)
        .get("/api/v1/dags/{dag_id}/runs/{run_id}/assets", VIEWER, assets::of_run)
        .get("/api/v1/backfills", VIEWER, backfills::list)
        .post("/api/v1/backfills", OPERATOR, backfills::create)
        .get("/api/v1/backfills/{id}", VIEWER, backfills::show)
        .get("/api/v1/backfills/{id}/dates", VIEWER, backfills::dates)
        .post("/api/v1/backfills/{id}/pause", OPERATOR, backfills::pause)
        .post("/api/v1/backfills/{id}/resume", OPERATOR, backfills::resume)
        .post("/api/v1/backfills/{id}/cancel", OPERATOR, backfills::cancel)
}
