//! The server's URL and the password's sources.

use super::{Args, SERVER_ID_BASE};
use crate::config::{Mysql, Tls};
use crate::mysql::Password;
use anyhow::{Context as _, bail};
use std::path::PathBuf;

/// Environment variable that may hold the password.
const PASSWORD_VARIABLE: &str = "AESOP_PASSWORD";

pub(super) struct Target {
    pub(super) mysql: Mysql,
    /// None: in the file that `mysql` names.
    pub(super) password: Option<Password>,
}

pub(super) fn parse(args: &Args) -> anyhow::Result<Target> {
    // The URL may hold a password: it is never shown.
    let url =
        url::Url::parse(&args.url).context("the server's URL is not valid: give mysql://user@host:port/")?;
    if url.scheme() != "mysql" {
        bail!("the server's URL must begin with mysql://");
    }
    let host = url.host_str().filter(|host| !host.is_empty()).context("the server's URL names no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if url.username().is_empty() {
        bail!("the server's URL names no user: give mysql://user@host:port/");
    }
    let mut tls = Tls::default();
    let mut ca = None;
    for (name, value) in url.query_pairs() {
        match (name.as_ref(), value.as_ref()) {
            ("tls", "disabled") => tls = Tls::Disabled,
            ("tls", "preferred") => tls = Tls::Preferred,
            ("tls", "required") => tls = Tls::Required,
            ("tls", "verify_ca") => tls = Tls::VerifyCa,
            ("tls", "verify_identity") => tls = Tls::VerifyIdentity,
            ("tls", other) => {
                bail!("tls={other}: give disabled, preferred, required, verify_ca or verify_identity")
            }
            ("ca", path) => ca = Some(PathBuf::from(path)),
            (other, _) => bail!("the server's URL has the unknown parameter {other}; there are tls and ca"),
        }
    }
    let password = match (&args.password_file, url.password()) {
        (Some(_), _) => None,
        (None, Some(password)) => Some(Password::new(decode(password))),
        (None, None) => {
            Some(Password::new(std::env::var(PASSWORD_VARIABLE).unwrap_or_default().into_bytes()))
        }
    };
    let random = uuid::Uuid::new_v4().as_u128();
    let server_id = SERVER_ID_BASE | u32::try_from(random & 0x7fff_ffff).unwrap_or(1);
    Ok(Target {
        mysql: Mysql {
            host: host.to_owned(),
            port: url.port().unwrap_or(3306),
            user: String::from_utf8_lossy(&decode(url.username())).into_owned(),
            password_file: args.password_file.clone(),
            tls,
            ca,
            server_id: args.server_id.unwrap_or(server_id),
        },
        password,
    })
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%'
            && let Some((hex, behind)) = tail.split_first_chunk::<2>()
            && let Some(value) = std::str::from_utf8(hex).ok().and_then(|h| u8::from_str_radix(h, 16).ok())
        {
            out.push(value);
            rest = behind;
        } else {
            out.push(*byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn target(url: &str) -> anyhow::Result<Target> {
        parse(&Cli::parse_from(["tail", url]).args)
    }

    #[test]
    fn parts_of_the_url() {
        let t = target("mysql://a%40b:p%2Fw%25@db.example:3307/?tls=required").unwrap();
        assert_eq!((t.mysql.user.as_str(), t.mysql.host.as_str(), t.mysql.port), ("a@b", "db.example", 3307));
        assert_eq!(t.mysql.tls, Tls::Required);
        assert_eq!(t.password, Some(Password::new("p/w%")));
        assert!(t.mysql.server_id >= SERVER_ID_BASE);
        assert_eq!(target("mysql://a@[::1]/").unwrap().mysql.host, "::1");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in
            ["postgres://u:secret@h/", "mysql://h/", "mysql://u:secret@h/?tls=yes", "mysql://u:secret@h:x/"]
        {
            let error = format!("{:#}", target(url).err().unwrap());
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
