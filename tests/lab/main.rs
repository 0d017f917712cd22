//! Tests on real hosts: systemd, SSH, databases, brokers, mail. They need root and Linux; elsewhere this says what it
//! leaves out and passes. A test is a function that panics when what it checks does not hold; add it to `TESTS`.

#![allow(
    clippy::expect_used,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, and tells what it is doing"
)]

mod brokers;
mod client;
mod cluster;
mod crash;
#[path = "../common/document.rs"]
mod document;
mod extras;
mod failover;
mod growth;
mod hosts;
mod interrupted;
mod load;
mod offline;
mod oracle;
mod plans;
mod program;
mod quorum;
mod raising;
mod reboot;
mod refusals;
mod releases;
mod secrets;
mod secure;
mod site;
mod ssh;
mod story;
mod tutorial;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// In the order they run: the stories share one cluster, made by the first of them.
const TESTS: &[(&str, fn())] = &[
    ("hosts::answer_over_ssh", hosts::answer_over_ssh),
    ("hosts::differ_in_what_sudo_allows", hosts::differ_in_what_sudo_allows),
    ("hosts::stop_their_own_services_only", hosts::stop_their_own_services_only),
    ("hosts::can_be_cut_off_and_frozen", hosts::can_be_cut_off_and_frozen),
    ("hosts::come_back_after_every_end", hosts::come_back_after_every_end),
    ("hosts::can_have_a_full_disk", hosts::can_have_a_full_disk),
    ("hosts::are_added_and_removed", hosts::are_added_and_removed),
    ("hosts::bring_databases_and_mail", hosts::bring_databases_and_mail),
    ("hosts::leave_nothing_behind", hosts::leave_nothing_behind),
    (
        "hosts::leave_nothing_behind_when_their_creator_is_killed",
        hosts::leave_nothing_behind_when_their_creator_is_killed,
    ),
    ("failover::a_failover_loses_and_doubles_nothing", failover::a_failover_loses_and_doubles_nothing),
    ("quorum::members_are_upgraded_under_load", quorum::members_are_upgraded_under_load),
    ("quorum::kafka_on_zookeeper_under_load", quorum::kafka_on_zookeeper_under_load),
    ("quorum::zookeeper_grows_and_shrinks_under_load", quorum::zookeeper_grows_and_shrinks_under_load),
    ("quorum::zookeeper_changes_under_kafka", quorum::zookeeper_changes_under_kafka),
    ("secure::kafka_with_tls_and_passwords", secure::kafka_with_tls_and_passwords),
    (
        "interrupted::applies_exclude_each_other_and_are_finished_wherever_they_die",
        interrupted::applies_exclude_each_other_and_are_finished_wherever_they_die,
    ),
    ("releases::each_carries_something", releases::each_carries_something),
    ("ssh::hosts_as_they_are_are_worked_on", ssh::hosts_as_they_are_are_worked_on),
    ("extras::come_change_are_put_back_and_go", extras::come_change_are_put_back_and_go),
    (
        "ssh::services_are_stopped_started_and_hosts_rebooted",
        ssh::services_are_stopped_started_and_hosts_rebooted,
    ),
    ("ssh::a_host_that_cannot_be_worked_on_says_why", ssh::a_host_that_cannot_be_worked_on_says_why),
    ("tutorial::its_commands_do_what_it_says", tutorial::its_commands_do_what_it_says),
    ("story::from_nothing_to_a_resolved_mail", story::from_nothing_to_a_resolved_mail),
    ("growth::a_host_is_added_by_a_line", growth::a_host_is_added_by_a_line),
    (
        "refusals::hosts_that_refuse_are_named_with_the_reason",
        refusals::hosts_that_refuse_are_named_with_the_reason,
    ),
    (
        "refusals::a_mended_source_is_finished_by_the_next_apply",
        refusals::a_mended_source_is_finished_by_the_next_apply,
    ),
    ("crash::nothing_is_lost_in_a_crash", crash::nothing_is_lost_in_a_crash),
    ("reboot::three_brokers_are_rolled_under_traffic", reboot::three_brokers_are_rolled_under_traffic),
    (
        "plans::a_change_is_saved_refused_taken_back_and_finished",
        plans::a_change_is_saved_refused_taken_back_and_finished,
    ),
    // After it there is no cluster any more.
    ("plans::a_destroyed_cluster_leaves_its_data", plans::a_destroyed_cluster_leaves_its_data),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One at a time: they share hosts, and two processors.
    arguments.test_threads = Some(1);
    if let Some(reason) = aesop::lab::why_not() {
        eprintln!("the lab cannot run here ({reason}); left out:");
        for (name, _) in TESTS {
            eprintln!("  {name}");
        }
        return libtest_mimic::run(&arguments, Vec::new()).exit_code();
    }
    let trial = |&(name, test): &(&'static str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect());
    cluster::tear_down();
    conclusion.exit_code()
}
