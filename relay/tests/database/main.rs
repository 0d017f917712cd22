//! Tests on real databases. They need root and Linux, and the images that the lab makes; where they cannot run they say
//! so and pass. `AESOP_ORACLE_STATEMENTS` and `AESOP_ORACLE_SEED` make the oracle's runs longer, and others.

#![allow(
    clippy::expect_used,
    clippy::format_collect,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test may panic, and tells what it is doing"
)]

mod alone;
mod best_effort;
mod chaos;
mod charsets;
mod clash;
mod clients;
mod crash;
mod failover;
mod fold;
mod huge;
mod login;
mod lookback;
mod network;
mod oracle;
mod program;
mod proxy;
mod random;
mod rows;
mod selection;
mod server;
mod snapshot;
mod statements;
mod tail;
mod types;
mod xa;
mod zookeeper;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};
use server::{Kind, Server};
use std::process::ExitCode;

/// A test with the servers it may use.
type Test = fn(&Servers);

const TESTS: &[(&str, Test)] = &[
    ("charsets::are_mysqls", |s| s.block_on(charsets::are_the_servers(&s.mysql))),
    ("charsets::are_mariadbs", |s| s.block_on(charsets::are_the_servers(&s.mariadb))),
    ("login::mysql", |s| s.block_on(login::works_in_every_mode(&s.mysql))),
    ("login::mariadb", |s| s.block_on(login::works_in_every_mode(&s.mariadb))),
    ("xa::mysql", |s| s.block_on(xa::rows_come_with_their_commit(&s.mysql))),
    ("xa::mariadb", |s| s.block_on(xa::rows_come_with_their_commit(&s.mariadb))),
    ("rows::too_large_mysql", |s| s.block_on(rows::too_large_are_an_error_or_left_out(&s.mysql))),
    ("rows::too_large_mariadb", |s| s.block_on(rows::too_large_are_an_error_or_left_out(&s.mariadb))),
    ("rows::far_too_large_mysql", |s| s.block_on(rows::far_too_large_pass_by_in_little_memory(&s.mysql))),
    ("rows::far_too_large_mariadb", |s| s.block_on(rows::far_too_large_pass_by_in_little_memory(&s.mariadb))),
    ("rows::json_steps", |s| s.block_on(rows::json_steps_without_documents_are_refused(&s.mysql))),
    ("rows::tagged_gtids", |s| s.block_on(rows::tagged_gtids_are_a_start(&s.mysql))),
    ("rows::cascades_mysql", |s| s.block_on(rows::cascades_are_logged_or_warned_of(&s.mysql))),
    ("rows::cascades_mariadb", |s| s.block_on(rows::cascades_are_logged_or_warned_of(&s.mariadb))),
    ("rows::rights_mysql", |s| s.block_on(rows::missing_rights_are_named(&s.mysql))),
    ("rows::rights_mariadb", |s| s.block_on(rows::missing_rights_are_named(&s.mariadb))),
    ("statements::mysql", |s| s.block_on(statements::are_told_as_they_were_meant(&s.mysql, Kind::MySql))),
    ("statements::mariadb", |s| {
        s.block_on(statements::are_told_as_they_were_meant(&s.mariadb, Kind::MariaDb));
    }),
    ("statements::hidden_mysql", |s| {
        s.block_on(statements::that_hide_rows_are_an_error(&s.mysql, Kind::MySql));
    }),
    ("statements::hidden_mariadb", |s| {
        s.block_on(statements::that_hide_rows_are_an_error(&s.mariadb, Kind::MariaDb));
    }),
    ("snapshot::mysql", |s| s.block_on(snapshot::goes_on_where_it_was_taken(&s.mysql))),
    ("snapshot::mariadb", |s| s.block_on(snapshot::goes_on_where_it_was_taken(&s.mariadb))),
    ("snapshot::file", |s| s.block_on(snapshot::a_file_is_whole_after_crashes(&s.mysql))),
    ("snapshot::refusals_mysql", |s| s.block_on(snapshot::says_what_is_in_its_way(&s.mysql))),
    ("snapshot::refusals_mariadb", |s| s.block_on(snapshot::says_what_is_in_its_way(&s.mariadb))),
    ("lookback::mysql", |s| s.block_on(lookback::what_is_older_than_the_log_is_read_again(&s.mysql))),
    ("lookback::mariadb", |s| s.block_on(lookback::what_is_older_than_the_log_is_read_again(&s.mariadb))),
    ("lookback::branches_mysql", |s| {
        s.block_on(lookback::branches_prepared_before_the_place_are_found(&s.mysql));
    }),
    ("lookback::branches_mariadb", |s| {
        s.block_on(lookback::branches_prepared_before_the_place_are_found(&s.mariadb));
    }),
    ("selection::mysql", |s| s.block_on(selection::streams_bring_what_is_selected(&s.mysql))),
    ("selection::mariadb", |s| s.block_on(selection::streams_bring_what_is_selected(&s.mariadb))),
    ("oracle::mysql", |s| s.block_on(oracle::run(&s.mysql, "full", false, oracle::seed()))),
    ("oracle::mysql_partial_images", |s| s.block_on(oracle::run(&s.mysql, "part", true, oracle::seed()))),
    ("oracle::mariadb", |s| s.block_on(oracle::run(&s.mariadb, "full", false, oracle::seed()))),
    ("best_effort::mysql", |s| s.block_on(best_effort::rows_are_the_servers(Kind::MySql, "MINIMAL"))),
    ("best_effort::mariadb", |s| s.block_on(best_effort::rows_are_the_servers(Kind::MariaDb, "NO_LOG"))),
    ("best_effort::mariadb_types", |s| s.block_on(best_effort::types_are_told(&s.mariadb))),
    ("chaos::mysql", |s| s.block_on(chaos::nothing_is_lost_or_doubled(&s.mysql))),
    ("chaos::mariadb", |s| s.block_on(chaos::nothing_is_lost_or_doubled(&s.mariadb))),
    ("chaos::disk_mysql", |s| s.block_on(chaos::a_full_disk_only_delays(&s.mysql))),
    ("oracle::mariadb_partial_images", |s| s.block_on(oracle::run(&s.mariadb, "part", true, oracle::seed()))),
];

/// A test with servers of its own. They run beside each other: most of their time is waiting.
type Apart = fn() -> LocalBoxFuture<'static, ()>;

const APART: &[(&str, Apart)] = &[
    ("failover::mysql", || failover::relays_agree(Kind::MySql).boxed_local()),
    ("failover::mariadb", || failover::relays_agree(Kind::MariaDb).boxed_local()),
    ("crash::mysql", || crash::nothing_is_lost_or_made_up(Kind::MySql).boxed_local()),
    ("crash::mariadb", || crash::nothing_is_lost_or_made_up(Kind::MariaDb).boxed_local()),
    ("alone::mysql", || alone::a_source_stops_and_the_other_goes_on(Kind::MySql).boxed_local()),
    ("alone::mariadb", || alone::a_source_stops_and_the_other_goes_on(Kind::MariaDb).boxed_local()),
    ("plain::mysql", || plain().boxed_local()),
    ("clients::wrong", || clients::wrong_ones_cost_the_others_nothing().boxed_local()),
    ("clash::mysql", || clash::two_relays_with_one_number(Kind::MySql).boxed_local()),
    ("clash::mariadb", || clash::two_relays_with_one_number(Kind::MariaDb).boxed_local()),
    ("network::mysql", || network::a_dead_link_is_noticed(Kind::MySql).boxed_local()),
    ("network::mariadb", || network::a_dead_link_is_noticed(Kind::MariaDb).boxed_local()),
];

/// Each takes minutes and gigabytes: only with `AESOP_LONG`, one after the other.
const LONG: &[(&str, Apart)] = &[
    ("huge::mysql", || huge::transactions_begin_beyond_4_gib(Kind::MySql, false).boxed_local()),
    ("huge::mysql_without_gtids", || huge::transactions_begin_beyond_4_gib(Kind::MySql, true).boxed_local()),
    ("huge::mariadb", || huge::transactions_begin_beyond_4_gib(Kind::MariaDb, false).boxed_local()),
];

/// MySQL as it is where nobody has chosen: without GTIDs; and without checksums in its binlog.
async fn plain() {
    let plain = "gtid_mode = OFF\nenforce_gtid_consistency = OFF\nbinlog_checksum = NONE";
    let server = Server::start(Kind::MySql, 71, plain).await;
    oracle::run(&server, "plain", false, oracle::seed()).await;
    chaos::nothing_is_lost_or_doubled(&server).await;
}

/// The servers that most tests share.
struct Servers {
    runtime: tokio::runtime::Runtime,
    mysql: Server,
    mariadb: Server,
}

impl Servers {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (mysql, mariadb) = runtime.block_on(async {
            tokio::join!(Server::start(Kind::MySql, 1, ""), Server::start(Kind::MariaDb, 2, ""))
        });
        Self { runtime, mysql, mariadb }
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if let Some(reason) = server::why_not() {
        eprintln!("no database can be run here ({reason}); left out:");
        let names = TESTS.iter().map(|(name, _)| name).chain(APART.iter().map(|(name, _)| name));
        names.for_each(|name| eprintln!("  {name}"));
        return libtest_mimic::run(&arguments, Vec::new()).exit_code();
    }
    let servers = std::sync::OnceLock::new();
    let servers: &'static std::sync::OnceLock<Servers> = Box::leak(Box::new(servers));
    let trials = TESTS.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test(servers.get_or_init(Servers::start));
            Ok(())
        })
    });
    let long = if std::env::var_os("AESOP_LONG").is_some() { LONG } else { &[] };
    let alone = |tests: &'static [(&str, Apart)]| {
        let trial = |&(name, test): &(&str, Apart)| {
            Trial::test(name, move || {
                tokio::runtime::Runtime::new()?.block_on(test());
                Ok(())
            })
        };
        tests.iter().map(trial)
    };
    let shared = libtest_mimic::run(&arguments, trials.chain(alone(long)).collect());
    arguments.test_threads = Some(APART.len());
    let apart = libtest_mimic::run(&arguments, alone(APART).collect());
    if shared.has_failed() { shared.exit_code() } else { apart.exit_code() }
}
