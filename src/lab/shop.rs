//! A small shop database and its traffic, for the demo, the tests and the benchmarks.
//!
//! Every step of the traffic is one transaction, numbered; the same number gives the same step, so two runs of a
//! range make the same rows.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, TxOpts};

/// How to reach a database server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User who may create databases and users.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl Server {
    /// Opens a connection.
    pub async fn connect(&self) -> Result<Conn, Error> {
        Conn::new(Opts::from(
            OptsBuilder::default()
                .ip_or_hostname(self.host.clone())
                .tcp_port(self.port)
                .user(Some(self.user.clone()))
                .pass(Some(self.password.clone()))
                .init(vec!["SET time_zone = '+00:00'"]),
        ))
        .await
    }
}

/// The tables of the shop, with their key columns.
pub const TABLES: [(&str, &[&str]); 3] =
    [("customers", &["id"]), ("orders", &["id"]), ("order_lines", &["order_id", "line"])];

const SCHEMA: [&str; 3] = [
    "CREATE TABLE customers (
        id INT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(80) NOT NULL, email VARCHAR(120) NOT NULL,
        vip BIT(1) NOT NULL DEFAULT b'0', created DATETIME(3) NOT NULL) DEFAULT CHARSET utf8mb4",
    "CREATE TABLE orders (
        id BIGINT UNSIGNED NOT NULL PRIMARY KEY, customer_id INT UNSIGNED NOT NULL,
        status ENUM('new','paid','shipped','cancelled') NOT NULL, amount DECIMAL(10,2) NOT NULL,
        notes TEXT, updated TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)) DEFAULT CHARSET utf8mb4",
    "CREATE TABLE order_lines (
        order_id BIGINT UNSIGNED NOT NULL, line SMALLINT NOT NULL, sku CHAR(8) NOT NULL,
        quantity INT NOT NULL, price DECIMAL(8,2) NOT NULL, PRIMARY KEY (order_id, line)) DEFAULT CHARSET utf8mb4",
];

const NAMES: [&str; 8] = ["Ada", "Grace", "Barbara", "Łucja", "Søren", "Zoë", "Édouard", "美咲"];

/// Creates the database `shop` and its tables, afresh.
pub async fn create(server: &Server) -> Result<(), Error> {
    let mut conn = server.connect().await?;
    conn.query_drop("DROP DATABASE IF EXISTS shop").await?;
    conn.query_drop("CREATE DATABASE shop").await?;
    conn.query_drop("USE shop").await?;
    for statement in SCHEMA {
        conn.query_drop(statement).await?;
    }
    conn.disconnect().await
}

/// Creates the user that relays read with, on MySQL and MariaDB alike.
pub async fn create_reader(server: &Server, user: &str, password: &str) -> Result<(), Error> {
    let mut conn = server.connect().await?;
    conn.query_drop(format!("CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}'")).await?;
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    // MariaDB split REPLICATION CLIENT; MONITOR lets a reader ask for the end of the binlog.
    let grants = if version.is_some_and(|version| version.contains("MariaDB")) {
        "REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR"
    } else {
        "REPLICATION SLAVE, REPLICATION CLIENT"
    };
    conn.query_drop(format!("GRANT {grants} ON *.* TO '{user}'@'%'")).await?;
    conn.disconnect().await
}

/// Does step `n` of the traffic: a new order, sometimes with a new customer, and something about an older one.
pub async fn step(conn: &mut Conn, n: u64) -> Result<(), Error> {
    let mut txn = conn.start_transaction(TxOpts::default()).await?;
    let customer = n / 3 + 1;
    if n.is_multiple_of(3) {
        let name = NAMES.get(usize::try_from(n / 3 % 8).unwrap_or(0)).copied().unwrap_or("Ada");
        txn.exec_drop(
            "INSERT INTO shop.customers (id, name, email, vip, created) VALUES (?, ?, ?, ?, NOW(3))
             ON DUPLICATE KEY UPDATE name = name",
            (customer, name, format!("{n}@example.com"), customer.is_multiple_of(5)),
        )
        .await?;
    }
    txn.exec_drop(
        "INSERT INTO shop.orders (id, customer_id, status, amount, notes) VALUES (?, ?, 'new', ?, ?)
         ON DUPLICATE KEY UPDATE amount = amount",
        (n + 1, customer, format!("{}.{:02}", n % 900 + 1, n % 100), note(n)),
    )
    .await?;
    for line in 1..=n % 3 + 1 {
        txn.exec_drop(
            "INSERT IGNORE INTO shop.order_lines VALUES (?, ?, ?, ?, ?)",
            (n + 1, line, format!("SKU-{:04}", n * 7 % 1000), line * 2, "9.99"),
        )
        .await?;
    }
    older_order(&mut txn, n).await?;
    txn.commit().await
}

/// Moves an older order on: paid, shipped, or cancelled and removed with its lines.
async fn older_order(txn: &mut mysql_async::Transaction<'_>, n: u64) -> Result<(), Error> {
    if n >= 5 {
        txn.exec_drop(
            "UPDATE shop.orders SET status = 'paid', updated = CURRENT_TIMESTAMP(6) WHERE id = ?",
            (n - 4,),
        )
        .await?;
    }
    if n >= 10 && n.is_multiple_of(4) {
        txn.exec_drop("UPDATE shop.orders SET status = 'shipped' WHERE id = ?", (n - 9,)).await?;
    }
    if n >= 20 && n.is_multiple_of(7) {
        txn.exec_drop("DELETE FROM shop.order_lines WHERE order_id = ?", (n - 19,)).await?;
        txn.exec_drop("DELETE FROM shop.orders WHERE id = ?", (n - 19,)).await?;
    }
    if n >= 30 && n.is_multiple_of(11) {
        // A key that changes, and changes back at the next multiple: delete and insert for the readers.
        txn.exec_drop(
            "UPDATE shop.order_lines SET line = line + 100 WHERE order_id = ? AND line < 100",
            (n - 14,),
        )
        .await?;
    }
    Ok(())
}

fn note(n: u64) -> Option<String> {
    n.is_multiple_of(2).then(|| format!("leave at door {n} — “vorsichtig”, 注意 🚪"))
}
