//! What a server must offer before its first event is read, and what to say where it does not.

use super::admin::{self, BinaryLogs};
use super::connection::{Connection, address};
use super::{Definite, Error, Finding, Flavor, ServerIdentity, packet};
use crate::config::{Mysql, SchemaFrom};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The server's variables that matter, by lower-case name.
pub(super) type Variables = HashMap<String, String>;

const NAMES: &str = "'version','server_id','server_uuid','log_bin','log_bin_basename','binlog_format',\
                     'binlog_row_image','binlog_row_metadata','binlog_row_value_options','gtid_mode',\
                     'gtid_executed','gtid_binlog_pos','binlog_expire_logs_seconds','expire_logs_days'";
/// A binlog that is gone sooner may be gone before somebody has mended what stopped a relay.
const KEEP_SECS: f64 = 86_400.0;
const FULL_METADATA: (&str, &str) = ("binlog_row_metadata", "'FULL'");
/// A clock further off than this is not kept by anybody.
const CLOCK_OFFSET_US: u64 = 2_000_000;
/// The statement needs a right that the user has not.
const NO_PRIVILEGE: u16 = 1227;

/// How a setting is changed so that it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settings {
    /// MySQL from 8.0 on keeps what it is told.
    Kept,
    /// A restart forgets it, but for what is in the configuration file.
    Forgotten,
}

impl Settings {
    fn of(variables: &Variables) -> Self {
        let version = variables.get("version").map_or("", String::as_str);
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let is_maria = admin::flavor(version) == Flavor::MariaDb;
        if !is_maria && major.is_some_and(|major| major >= 8) { Self::Kept } else { Self::Forgotten }
    }

    /// The statements that set these.
    fn set(self, settings: &[(&str, &str)]) -> String {
        let each = |verb: &str| {
            let set: Vec<_> =
                settings.iter().map(|(name, value)| format!("{verb} {name} = {value}")).collect();
            set.join("; ")
        };
        match self {
            Self::Kept => each("SET PERSIST"),
            Self::Forgotten => {
                // Of steps to a value the last one stays.
                let mut lines: Vec<(&str, &str)> = Vec::new();
                for (name, value) in settings {
                    lines.retain(|(known, _)| known != name);
                    lines.push((name, value));
                }
                let lines: Vec<_> = lines
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", value.trim_matches('\'')))
                    .collect();
                format!(
                    "{}, and for the next restart {} under [mysqld] in its my.cnf",
                    each("SET GLOBAL"),
                    lines.join(", ")
                )
            }
        }
    }
}

/// What a preflight found besides what forbids reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Who answers.
    pub server: ServerIdentity,
    /// What will hurt one day, each with what mends it.
    pub warnings: Vec<Finding>,
    /// Rows are logged with the names of their columns now.
    pub full_metadata: bool,
}

async fn variables(connection: &mut Connection) -> Result<Variables, Error> {
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({NAMES})");
    let mut found = Variables::new();
    for row in connection.query(&sql).await? {
        let mut fields = row.into_iter();
        if let (Some(Some(name)), Some(value)) = (fields.next(), fields.next()) {
            found.insert(name.to_ascii_lowercase(), value.unwrap_or_default());
        }
    }
    Ok(found)
}

/// Microseconds since 1970 UTC by our clock.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Who answers.
pub(super) async fn identity(connection: &mut Connection) -> Result<ServerIdentity, Error> {
    let variables = variables(connection).await?;
    identity_from(connection, &variables).await
}

async fn identity_from(connection: &mut Connection, variables: &Variables) -> Result<ServerIdentity, Error> {
    let before = now_us();
    let rows = connection.query("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)").await?;
    let after = now_us();
    let theirs = rows.into_iter().flatten().flatten().next().and_then(|text| text.parse::<i64>().ok());
    let get = |name: &str| variables.get(name).cloned().unwrap_or_default();
    let version = get("version");
    let flavor = admin::flavor(&version);
    let server_id = get("server_id");
    let base = get("log_bin_basename");
    Ok(ServerIdentity {
        server_uuid: if flavor == Flavor::MariaDb { server_id.clone() } else { get("server_uuid") },
        server_id: server_id.parse().unwrap_or(0),
        version,
        flavor,
        file_base: base.rsplit('/').next().unwrap_or_default().to_owned(),
        gtids: if flavor == Flavor::MariaDb { get("gtid_binlog_pos") } else { get("gtid_executed") }
            .replace('\n', ""),
        // Half of the round trip belongs to either way.
        clock_offset_us: theirs.map_or(0, |theirs| theirs - (before + (after - before) / 2)),
    })
}

/// What the variables alone say is wrong.
pub(super) fn findings(variables: &Variables, schema: SchemaFrom, our_server_id: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |problem: String, remedy: &str| {
        findings.push(Finding { problem, remedy: remedy.to_owned() });
    };
    let settings = Settings::of(variables);
    let is = |name: &str, value: &str| variables.get(name).is_none_or(|v| v.eq_ignore_ascii_case(value));
    let show = |name: &str| variables.get(name).map_or("", String::as_str);
    if !is("log_bin", "ON") && !is("log_bin", "1") {
        add(
            "it writes no binlog (log_bin is OFF)".into(),
            "set log_bin = mysql-bin under [mysqld] in my.cnf and restart it",
        );
    }
    if !is("binlog_format", "ROW") {
        add(
            format!("binlog_format is {}, not ROW", show("binlog_format")),
            &settings.set(&[("binlog_format", "'ROW'")]),
        );
    }
    if schema == SchemaFrom::RowMetadata {
        match variables.get("binlog_row_metadata") {
            Some(_) if has_full_metadata(variables) => {}
            Some(value) => {
                add(format!("binlog_row_metadata is {value}, not FULL"), &settings.set(&[FULL_METADATA]));
            }
            None => add(
                "it has no binlog_row_metadata, which column names come from".into(),
                "upgrade it to MySQL 8.0.1 or MariaDB 10.5, or set schema: best_effort",
            ),
        }
    }
    if show("binlog_row_value_options").to_ascii_uppercase().contains("PARTIAL_JSON")
        && !is("binlog_row_image", "FULL")
    {
        add(
            format!(
                "binlog_row_value_options is PARTIAL_JSON and binlog_row_image is {}: steps from JSON documents \
                 that are not logged",
                show("binlog_row_image")
            ),
            &settings.set(&[("binlog_row_image", "'FULL'")]),
        );
    }
    if show("server_id").parse() == Ok(our_server_id) {
        add(
            format!("its server_id is {our_server_id}, the one this relay uses"),
            "give the relay another server_id",
        );
    }
    findings
}

fn has_full_metadata(variables: &Variables) -> bool {
    variables.get("binlog_row_metadata").is_some_and(|value| value.eq_ignore_ascii_case("FULL"))
}

/// What the variables say will hurt one day.
fn warnings(variables: &Variables, identity: &ServerIdentity) -> Vec<Finding> {
    let (mut warnings, settings) = (Vec::new(), Settings::of(variables));
    let mut add =
        |problem: String, remedy: &str| warnings.push(Finding { problem, remedy: remedy.to_owned() });
    if let Some(mode) = variables.get("gtid_mode").filter(|mode| !mode.eq_ignore_ascii_case("ON")) {
        add(
            format!("gtid_mode is {mode}: no other server can take over from it"),
            &settings.set(&[
                ("enforce_gtid_consistency", "ON"),
                ("gtid_mode", "OFF_PERMISSIVE"),
                ("gtid_mode", "ON_PERMISSIVE"),
                ("gtid_mode", "ON"),
            ]),
        );
    }
    let number = |name: &str| variables.get(name).and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
    let days = number("expire_logs_days");
    // 0 is never.
    let seconds = Some(number("binlog_expire_logs_seconds")).filter(|seconds| *seconds > 0.0);
    let kept = seconds.unwrap_or(days * 86_400.0);
    if kept > 0.0 && kept < KEEP_SECS {
        // MySQL 5.7 and MariaDB 10.5 know days only.
        let seconds = variables.contains_key("binlog_expire_logs_seconds");
        let longer =
            if seconds { ("binlog_expire_logs_seconds", "604800") } else { ("expire_logs_days", "7") };
        add(
            format!(
                "it keeps binlogs for {kept} s only: a relay that stands still for longer has lost its place"
            ),
            &settings.set(&[longer]),
        );
    }
    if let Some(image) = variables.get("binlog_row_image").filter(|v| !v.eq_ignore_ascii_case("FULL")) {
        // Seen on 10.11: a REPLACE over a row is logged as an update of the columns that the statement names.
        let lost = match identity.flavor {
            Flavor::MariaDb => ", and those that a REPLACE over a row sets to their defaults are in no image",
            Flavor::MySql => "",
        };
        add(
            format!(
                "binlog_row_image is {image}: columns missing from an image are left out of messages{lost}"
            ),
            &settings.set(&[("binlog_row_image", "'FULL'")]),
        );
    }
    // Without best effort it is an error.
    if !has_full_metadata(variables) {
        add(
            "the binlog does not name columns: rows of a table that was changed again before it was looked at stop the source"
                .into(),
            &match variables.get("binlog_row_metadata") {
                Some(_) => settings.set(&[FULL_METADATA]),
                None => "upgrade it to MySQL 8.0.1 or MariaDB 10.5".to_owned(),
            },
        );
    }
    let offset = identity.clock_offset_us;
    if offset.unsigned_abs() > CLOCK_OFFSET_US {
        let (seconds, way) =
            (offset.unsigned_abs() / 1_000_000, if offset > 0 { "ahead of" } else { "behind" });
        add(
            format!(
                "its clock is {seconds} s {way} this host's: commit times and lag figures are off by as much"
            ),
            "on both hosts: timedatectl set-ntp true",
        );
    }
    warnings
}

/// The rights that reading needs.
fn rights(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MariaDb => "REPLICATION SLAVE, BINLOG MONITOR",
        Flavor::MySql => "REPLICATION SLAVE, REPLICATION CLIENT",
    }
}

/// The statement that gives an account rights. `account` is what `CURRENT_USER()` says: the host behind the last `@`.
pub(super) fn grant(rights: &str, on: &str, account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    let quoted = |name: &str| name.replace('\\', "\\\\").replace('\'', "''");
    format!("GRANT {rights} ON {on} TO '{}'@'{}'", quoted(user), quoted(host))
}

/// The account that the server took us for: of several with the same user the one whose host fits best.
pub(super) async fn account(connection: &mut Connection, config: &Mysql) -> Result<String, Error> {
    let rows = connection.query("SELECT CURRENT_USER()").await?;
    Ok(rows.into_iter().flatten().flatten().next().unwrap_or_else(|| format!("{}@%", config.user)))
}

/// Another replica's number that is one of ours, and what gives it a new one.
fn clash(id: &str, host: &str, free: u32, flavor: Flavor) -> Finding {
    let remedy = match flavor {
        Flavor::MySql => {
            format!("on that replica: SET PERSIST server_id = {free}; STOP REPLICA; START REPLICA")
        }
        Flavor::MariaDb => format!(
            "on that replica: SET GLOBAL server_id = {free}; STOP SLAVE; START SLAVE, and for the next restart server_id = {free} \
             under [mysqld] in its my.cnf"
        ),
    };
    Finding { problem: format!("its replica at {host:?} has server_id {id}, which is this relay's"), remedy }
}

/// Another replica of the server that uses one of our numbers, or that nobody can tell.
async fn clashes(
    connection: &mut Connection,
    flavor: Flavor,
    ours: &[u32],
    account: &str,
) -> Result<Option<Finding>, Error> {
    // MySQL 8.0.22 renamed the statement, 8.4 removed the old name. MariaDB's wants a right that reading does not need.
    let statements: &[&str] = match flavor {
        Flavor::MySql => &["SHOW REPLICAS", "SHOW SLAVE HOSTS"],
        Flavor::MariaDb => &["SHOW REPLICA HOSTS"],
    };
    for statement in statements {
        let rows = match connection.try_query(statement).await? {
            Ok(rows) => rows,
            // MySQL's is needed for reading, and said there.
            Err(error) if flavor == Flavor::MariaDb && error.code == NO_PRIVILEGE => {
                return Ok(Some(Finding {
                    problem: format!(
                        "user {account} may not list its replicas, so a server_id that two of them have shows only when they end \
                         each other's connections"
                    ),
                    remedy: grant("REPLICATION MASTER ADMIN", "*.*", account),
                }));
            }
            Err(_) => continue,
        };
        let replicas: Vec<(String, String)> = rows
            .into_iter()
            .map(|row| {
                let mut fields = row.into_iter().map(Option::unwrap_or_default);
                (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
            })
            .collect();
        let taken = |id: &str| id.parse().is_ok_and(|id| ours.contains(&id));
        let other = replicas.iter().find(|(id, host)| host != packet::REPORTED_HOST && taken(id));
        return Ok(other.map(|(id, host)| {
            let numbers =
                replicas.iter().filter_map(|(id, _)| id.parse::<u32>().ok()).chain(ours.iter().copied());
            clash(id, host, numbers.max().unwrap_or(0).saturating_add(1), flavor)
        }));
    }
    Ok(None)
}

/// Asks everything; an error when something must be mended first. `ours` are the server ids to look for among the
/// server's replicas.
pub(super) async fn examine(
    connection: &mut Connection,
    config: &Mysql,
    schema: SchemaFrom,
    ours: &[u32],
) -> Result<(Examined, BinaryLogs), Error> {
    let variables = variables(connection).await?;
    let server = identity_from(connection, &variables).await?;
    let mut findings = findings(&variables, schema, config.server_id);
    let mut warnings = warnings(&variables, &server);
    let mut logs = BinaryLogs::default();
    if findings.is_empty() {
        let account = account(connection, config).await?;
        let mut missing = |what: &str| {
            let problem = format!("user {} may not {what}", config.user);
            findings.push(Finding { problem, remedy: grant(rights(server.flavor), "*.*", &account) });
        };
        match admin::list(connection).await {
            Ok(found) => logs = found,
            Err(Error::Definite(Definite::Access { .. })) => missing("list the binlogs"),
            Err(other) => return Err(other),
        }
        warnings.extend(clashes(connection, server.flavor, ours, &account).await?);
        match connection.command_ok(&packet::register(config.server_id)).await {
            Err(Error::Definite(Definite::Access { .. })) => missing("replicate"),
            done => done?,
        }
    }
    if findings.is_empty() {
        let full_metadata = has_full_metadata(&variables);
        Ok((Examined { server, warnings, full_metadata }, logs))
    } else {
        Err(Definite::Preflight { address: address(config), findings }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn each_finding_says_what_mends_it() {
        let bad = variables(&[
            ("version", "8.4.3"),
            ("log_bin", "OFF"),
            ("binlog_format", "MIXED"),
            ("binlog_row_metadata", "MINIMAL"),
            ("binlog_row_value_options", "PARTIAL_JSON"),
            ("binlog_row_image", "MINIMAL"),
            ("server_id", "7"),
        ]);
        let error = Definite::Preflight {
            address: "db:3306".into(),
            findings: findings(&bad, SchemaFrom::RowMetadata, 7),
        };
        expect![[r"
            db:3306 is not ready to be read: it writes no binlog (log_bin is OFF): set log_bin = mysql-bin under [mysqld] in my.cnf and restart it; binlog_format is MIXED, not ROW: SET PERSIST binlog_format = 'ROW'; binlog_row_metadata is MINIMAL, not FULL: SET PERSIST binlog_row_metadata = 'FULL'; binlog_row_value_options is PARTIAL_JSON and binlog_row_image is MINIMAL: steps from JSON documents that are not logged: SET PERSIST binlog_row_image = 'FULL'; its server_id is 7, the one this relay uses: give the relay another server_id
        "]]
        .assert_eq(&format!("{error}\n"));
    }

    #[test]
    fn what_will_hurt_one_day_is_told_too() {
        let bad = variables(&[
            ("version", "9.7.0"),
            ("gtid_mode", "OFF"),
            ("binlog_row_metadata", "FULL"),
            ("binlog_expire_logs_seconds", "3600"),
            ("binlog_row_image", "MINIMAL"),
        ]);
        let server = ServerIdentity { clock_offset_us: -5_000_000, ..ServerIdentity::default() };
        let told: Vec<String> =
            warnings(&bad, &server).iter().map(|f| format!("{}: {}", f.problem, f.remedy)).collect();
        expect![[r"
            gtid_mode is OFF: no other server can take over from it: SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON
            it keeps binlogs for 3600 s only: a relay that stands still for longer has lost its place: SET PERSIST binlog_expire_logs_seconds = 604800
            binlog_row_image is MINIMAL: columns missing from an image are left out of messages: SET PERSIST binlog_row_image = 'FULL'
            its clock is 5 s behind this host's: commit times and lag figures are off by as much: on both hosts: timedatectl set-ntp true
        "]]
        .assert_eq(&format!("{}\n", told.join("\n")));
        let good = variables(&[
            ("gtid_mode", "ON"),
            ("binlog_row_metadata", "FULL"),
            ("expire_logs_days", "0.5"),
            ("binlog_expire_logs_seconds", "2592000"),
        ]);
        assert_eq!(warnings(&good, &ServerIdentity::default()), []);
        // MariaDB keeps them for ever by itself.
        let forever = variables(&[
            ("binlog_row_metadata", "FULL"),
            ("expire_logs_days", "0"),
            ("binlog_expire_logs_seconds", "0"),
        ]);
        assert_eq!(warnings(&forever, &ServerIdentity::default()), []);
    }

    #[test]
    fn best_effort_takes_a_server_that_names_no_columns() {
        let minimal = variables(&[("log_bin", "ON"), ("binlog_row_metadata", "MINIMAL"), ("server_id", "1")]);
        assert_eq!(findings(&minimal, SchemaFrom::BestEffort, 7), []);
        let told = warnings(&minimal, &ServerIdentity::default());
        let remedy = "SET GLOBAL binlog_row_metadata = 'FULL', and for the next restart binlog_row_metadata = FULL under [mysqld] \
                      in its my.cnf";
        assert_eq!(told.first().map(|f| f.remedy.as_str()), Some(remedy));
    }

    #[test]
    fn older_servers_are_told_what_they_know() {
        for version in ["5.7.44-log", "10.5.29-MariaDB-log"] {
            let old = variables(&[
                ("version", version),
                ("gtid_mode", "OFF"),
                ("expire_logs_days", "0.5"),
                ("binlog_row_image", "MINIMAL"),
            ]);
            let told: Vec<String> = warnings(&old, &ServerIdentity::default())
                .into_iter()
                .map(|finding| finding.remedy)
                .collect();
            expect![[r"
                SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE; SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = ON, and for the next restart enforce_gtid_consistency = ON, gtid_mode = ON under [mysqld] in its my.cnf
                SET GLOBAL expire_logs_days = 7, and for the next restart expire_logs_days = 7 under [mysqld] in its my.cnf
                SET GLOBAL binlog_row_image = 'FULL', and for the next restart binlog_row_image = FULL under [mysqld] in its my.cnf
                upgrade it to MySQL 8.0.1 or MariaDB 10.5
            "]]
            .assert_eq(&format!("{}\n", told.join("\n")));
        }
    }

    #[test]
    fn rights_go_to_the_account_that_was_taken() {
        let to =
            |account| grant(rights(Flavor::MySql), "*.*", account).rsplit_once(" TO ").unwrap().1.to_owned();
        assert_eq!(to("aesop@10.0.0.%"), "'aesop'@'10.0.0.%'");
        assert_eq!(to("o'neil@home@localhost"), "'o''neil@home'@'localhost'");
    }

    #[test]
    fn a_clash_is_mended_by_statements() {
        let mysql = clash("7", "db2", 9, Flavor::MySql);
        assert_eq!(mysql.remedy, "on that replica: SET PERSIST server_id = 9; STOP REPLICA; START REPLICA");
        assert!(
            clash("7", "db2", 9, Flavor::MariaDb).remedy.contains("SET GLOBAL server_id = 9; STOP SLAVE;")
        );
    }

    #[test]
    fn a_good_server_has_none() {
        let good = variables(&[
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_metadata", "FULL"),
            ("server_id", "1"),
        ]);
        assert!(findings(&good, SchemaFrom::RowMetadata, 7).is_empty());
        // MySQL drops binlog_format one day: a server without it knows rows only.
        let later = variables(&[("log_bin", "ON"), ("binlog_row_metadata", "FULL"), ("server_id", "1")]);
        assert!(findings(&later, SchemaFrom::RowMetadata, 7).is_empty());
    }
}
