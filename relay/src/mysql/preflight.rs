//! What a server must offer before its first event is read, and what to say where it does not.

use super::admin::{self, BinaryLogs};
use super::connection::{Connection, address};
use super::{Definite, Error, Finding, Flavor, ServerIdentity};
use crate::config::Mysql;
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The server's variables that matter, by lower-case name.
pub(super) type Variables = HashMap<String, String>;

const NAMES: &str = "'version','server_id','server_uuid','log_bin','log_bin_basename','binlog_format',\
                     'binlog_row_image','binlog_row_metadata','binlog_row_value_options','gtid_mode',\
                     'gtid_executed','gtid_binlog_pos'";

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
pub(super) fn findings(variables: &Variables, our_server_id: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |problem: String, remedy: &str| {
        findings.push(Finding { problem, remedy: remedy.to_owned() });
    };
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
            "SET GLOBAL binlog_format = 'ROW'",
        );
    }
    match variables.get("binlog_row_metadata") {
        Some(value) if value.eq_ignore_ascii_case("FULL") => {}
        Some(value) => {
            add(
                format!("binlog_row_metadata is {value}, not FULL"),
                "SET GLOBAL binlog_row_metadata = 'FULL'",
            );
        }
        None => add(
            "it has no binlog_row_metadata, which column names come from".into(),
            "upgrade it to MySQL 8.0.1 or MariaDB 10.5",
        ),
    }
    if show("binlog_row_value_options").to_ascii_uppercase().contains("PARTIAL_JSON") {
        add("binlog_row_value_options is PARTIAL_JSON".into(), "SET GLOBAL binlog_row_value_options = ''");
    }
    if show("server_id").parse() == Ok(our_server_id) {
        add(
            format!("its server_id is {our_server_id}, the one this relay uses"),
            "give the relay another server_id",
        );
    }
    findings
}

/// Asks everything; an error when something must be mended first.
pub(super) async fn examine(
    connection: &mut Connection,
    config: &Mysql,
) -> Result<(ServerIdentity, BinaryLogs), Error> {
    let variables = variables(connection).await?;
    let identity = identity_from(connection, &variables).await?;
    let mut findings = findings(&variables, config.server_id);
    let mut logs = BinaryLogs::default();
    if findings.is_empty() {
        match admin::list(connection).await {
            Ok(found) => logs = found,
            Err(Error::Definite(Definite::Access { .. })) => {
                let user = &config.user;
                let grant = if identity.flavor == Flavor::MariaDb {
                    format!("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO '{user}'@'%'")
                } else {
                    format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'@'%'")
                };
                findings.push(Finding {
                    problem: format!("user {user} may not list the binlogs"),
                    remedy: grant,
                });
            }
            Err(other) => return Err(other),
        }
    }
    if let Some(image) = variables.get("binlog_row_image").filter(|v| !v.eq_ignore_ascii_case("FULL")) {
        tracing::warn!(%image, "binlog_row_image is not FULL: columns missing from an image are left out of messages");
    }
    if findings.is_empty() {
        Ok((identity, logs))
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
            ("log_bin", "OFF"),
            ("binlog_format", "MIXED"),
            ("binlog_row_metadata", "MINIMAL"),
            ("binlog_row_value_options", "PARTIAL_JSON"),
            ("server_id", "7"),
        ]);
        let error = Definite::Preflight { address: "db:3306".into(), findings: findings(&bad, 7) };
        expect![[r"
            db:3306 is not ready to be read: it writes no binlog (log_bin is OFF): set log_bin = mysql-bin under [mysqld] in my.cnf and restart it; binlog_format is MIXED, not ROW: SET GLOBAL binlog_format = 'ROW'; binlog_row_metadata is MINIMAL, not FULL: SET GLOBAL binlog_row_metadata = 'FULL'; binlog_row_value_options is PARTIAL_JSON: SET GLOBAL binlog_row_value_options = ''; its server_id is 7, the one this relay uses: give the relay another server_id
        "]]
        .assert_eq(&format!("{error}\n"));
    }

    #[test]
    fn a_good_server_has_none() {
        let good = variables(&[
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_metadata", "FULL"),
            ("server_id", "1"),
        ]);
        assert!(findings(&good, 7).is_empty());
        // MySQL drops binlog_format one day: a server without it knows rows only.
        let later = variables(&[("log_bin", "ON"), ("binlog_row_metadata", "FULL"), ("server_id", "1")]);
        assert!(findings(&later, 7).is_empty());
    }
}
