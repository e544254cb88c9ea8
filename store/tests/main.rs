//! One conformance suite over memory, SQLite and PostgreSQL, and what is particular to each.

#[cfg(test)]
mod assets;
#[cfg(test)]
mod backfills;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod history;
#[cfg(test)]
mod leadership;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod past;
#[cfg(test)]
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod support;
#[cfg(test)]
mod vault;

/// Runs every named check over the three implementations.
macro_rules! over_all {
    ($($check:path as $name:ident,)+) => {
        #[cfg(test)]
        mod memory {
            $(#[tokio::test] async fn $name() { $check(&crate::support::Bed::memory()).await; })+
        }
        #[cfg(test)]
        mod sqlite_file {
            $(#[tokio::test] async fn $name() { $check(&crate::support::Bed::sqlite().await).await; })+
        }
        #[cfg(test)]
        mod postgresql {
            $(#[tokio::test] async fn $name() { $check(&crate::support::Bed::postgres().await).await; })+
        }
    };
}

over_all! {
    crate::conformance::guards_refuse_a_stale_fence as guards_refuse_a_stale_fence,
    crate::conformance::a_refused_batch_leaves_nothing as a_refused_batch_leaves_nothing,
    crate::conformance::two_writers_never_both_win as two_writers_never_both_win,
    crate::conformance::a_stale_term_writes_nothing as a_stale_term_writes_nothing,
    crate::conformance::a_batch_is_written_once as a_batch_is_written_once,
    crate::conformance::coalesced_changes_arrive as coalesced_changes_arrive,
    crate::conformance::tries_end_once as tries_end_once,
    crate::conformance::pokes_go_on_with_one_try as pokes_go_on_with_one_try,
    crate::conformance::outputs_are_replaced_and_cleared as outputs_are_replaced_and_cleared,
    crate::conformance::the_elements_of_mapped_tasks_come_back as the_elements_of_mapped_tasks_come_back,
    crate::conformance::retention_deletes_what_hangs_on_a_run as retention_deletes_what_hangs_on_a_run,
    crate::conformance::the_outbox_delivers_once_by_id as the_outbox_delivers_once_by_id,
    crate::conformance::access_rows_come_back as access_rows_come_back,
    crate::conformance::the_audit_log_is_chained as the_audit_log_is_chained,
    crate::conformance::dates_have_one_run as dates_have_one_run,
    crate::conformance::many_rows_in_one_batch as many_rows_in_one_batch,
    crate::conformance::of_two_rows_with_one_key_the_later_stays as of_two_rows_with_one_key_the_later_stays,
    crate::conformance::what_nothing_uses_any_more_is_pruned as what_nothing_uses_any_more_is_pruned,
    crate::vault::variables_and_connections_come_back as variables_and_connections_come_back,
    crate::vault::plain_text_is_refused_where_sealed_text_belongs as plain_text_is_refused_where_sealed_text_belongs,
    crate::refusals::every_illegal_pair_is_refused as every_illegal_pair_is_refused,
    crate::refusals::checks_tie_states_to_columns as checks_tie_states_to_columns,
    crate::lists::pages_cover_everything_once as pages_cover_everything_once,
    crate::lists::filters_and_counts as filters_and_counts,
    crate::past::what_has_been_is_counted_and_listed as what_has_been_is_counted_and_listed,
    crate::past::subjects_and_pauses_are_told_apart as subjects_and_pauses_are_told_apart,
    crate::assets::events_wait_and_are_taken_once as events_wait_and_are_taken_once,
    crate::assets::what_is_listened_to_no_more_is_dropped as what_is_listened_to_no_more_is_dropped,
    crate::assets::retention_takes_no_event_that_somebody_needs as retention_takes_no_event_that_somebody_needs,
    crate::assets::a_key_is_good_for_one_event as a_key_is_good_for_one_event,
    crate::assets::assets_are_listed_by_who_names_them as assets_are_listed_by_who_names_them,
    crate::leadership::terms_only_grow as terms_only_grow,
    crate::backfills::backfills_are_kept as backfills_are_kept,
    crate::backfills::an_ended_one_changes_no_more_and_goes_with_its_runs as an_ended_backfill_changes_no_more,
    crate::backfills::a_deleted_dag_takes_them_along as a_deleted_dag_takes_its_backfills_along,
}
