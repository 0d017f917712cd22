//! Monitor, mail and the lag report.

use super::{Check, secret, secret_or_generated};
use crate::inventory::defaults as d;
use crate::inventory::fault::At;
use crate::inventory::model::{Email, LagReport, MonitorRole, Smtp, SmtpTls};
use crate::inventory::value::Span;
use crate::inventory::{quantity, raw, schedule};
use std::time::Duration;

/// Faster, and agents do little else.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Slower, and "a stopped broker is mailed within two minutes" cannot hold.
const INTERVAL_MAX: Duration = Duration::from_mins(10);

impl Check<'_, '_> {
    pub(super) fn monitor(&mut self) -> Option<MonitorRole> {
        let role = self.raw.monitor.as_ref()?;
        let at = At::top("monitor");
        if role.checks.is_some() {
            self.not_yet(&at.key("checks"), "running your own checks", "remove the key");
        }
        let list = at.key("hosts");
        self.some_hosts(&list, role.hosts.len());
        let places: Vec<_> = role
            .hosts
            .iter()
            .enumerate()
            .map(|(index, host)| (list.index(index), self.member(&list.index(index), host)))
            .collect();
        self.once(&places, "monitor");
        let hosts: Vec<String> = places.into_iter().map(|(_, host)| host).collect();
        let port = self.port(&at.key("port"), role.port, d::MONITOR_PORT);
        for host in &hosts {
            self.hosts.claim_port(host, port, "`monitor.port`", &at.key("port"));
        }
        let interval = or_default(role.interval, d::MONITOR_INTERVAL);
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
            self.faults.add(&at.key("interval"), "agents are polled every 1 s to every 10 min", None);
        }
        let rules = role.rules.as_ref().and_then(|file| self.rules(&at.key("rules"), file));
        Some(MonitorRole {
            hosts,
            port,
            interval,
            email: role.email.as_ref().map(|email| self.email(&at.key("email"), email)),
            lag_report: self.lag_report(&at.key("lag_report"), role.lag_report.as_ref()),
            rules,
            agent_token: secret_or_generated(role.agent_token.as_ref(), "agent-token"),
        })
    }

    fn rules(&mut self, at: &At, file: &str) -> Option<String> {
        self.text_of(at, "the rules", file)
    }

    /// A PEM file with certificates.
    pub(super) fn authorities(&mut self, at: &At, file: &str) -> Option<String> {
        let text = self.text_of(at, "certificates", file)?;
        if !text.contains("-----BEGIN CERTIFICATE-----") {
            let help = "it wants PEM: `-----BEGIN CERTIFICATE-----` and what follows".to_owned();
            self.faults.add(at, format!("there is no certificate in `{file}`"), help);
        }
        Some(text)
    }

    /// A file that the inventory names.
    pub(super) fn text_of(&mut self, at: &At, what: &str, file: &str) -> Option<String> {
        let path = self.beside(file);
        match (self.read)(&path) {
            Ok(text) => Some(text),
            Err(error) => {
                let help = "relative paths start at the inventory's folder".to_owned();
                self.faults.add(at, format!("cannot read {what} from `{file}`: {}", reason(&error)), help);
                None
            }
        }
    }

    fn email(&mut self, at: &At, given: &raw::Email) -> Email {
        let smtp = &given.smtp;
        let smtp_at = at.key("smtp");
        self.address(&smtp_at.key("host"), &smtp.host);
        let (tls, port) = match smtp.tls.unwrap_or(raw::SmtpTls::Starttls) {
            raw::SmtpTls::None => (SmtpTls::None, 25),
            raw::SmtpTls::Starttls => (SmtpTls::Starttls, 587),
            raw::SmtpTls::Implicit => (SmtpTls::Implicit, 465),
        };
        match (&smtp.user, &smtp.password) {
            (Some(_), None) => {
                let help = "add `password: {env: SMTP_PASSWORD}`".to_owned();
                self.faults.add(&smtp_at.key("user"), "the user of the SMTP server has no password", help);
            }
            (None, Some(_)) => {
                let help = "add `user:`, or remove the password".to_owned();
                self.faults.add(
                    &smtp_at.key("password"),
                    "the password of the SMTP server has no user",
                    help,
                );
            }
            _ => {}
        }
        self.mailbox(&at.key("from"), &given.from);
        if given.to.is_empty() {
            self.faults.add(
                &at.key("to"),
                "there are no recipients",
                "add one, or remove `email`".to_owned(),
            );
        }
        for (index, to) in given.to.iter().enumerate() {
            self.mailbox(&at.key("to").index(index), to);
        }
        Email {
            smtp: Smtp {
                host: smtp.host.clone(),
                port: self.port(&smtp_at.key("port"), smtp.port, port),
                tls,
                ca: smtp.ca.as_ref().and_then(|file| self.authorities(&smtp_at.key("ca"), file)),
                user: smtp.user.clone(),
                password: secret(smtp.password.as_ref()),
            },
            from: given.from.clone(),
            to: given.to.clone(),
        }
    }

    /// `ops@example.com`, or `aesop <ops@example.com>`.
    fn mailbox(&mut self, at: &At, text: &str) {
        let address = match text.split_once('<') {
            Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
            None => text,
        };
        let right = address.split_once('@').is_some_and(|(user, domain)| {
            !user.is_empty() && !domain.is_empty() && !domain.contains('@') && !domain.starts_with('.')
        });
        if !right || address.contains(char::is_whitespace) || text.contains(char::is_control) {
            self.faults.add(
                at,
                format!("`{text}` is not a mail address"),
                "as in `ops@example.com`".to_owned(),
            );
        }
    }

    fn lag_report(&mut self, at: &At, given: Option<&raw::LagReport>) -> LagReport {
        let none = raw::LagReport::default();
        let given = given.unwrap_or(&none);
        let zone = given.timezone.as_deref();
        let zone_right = zone.is_none_or(schedule::is_zone);
        if let Some(zone) = zone.filter(|_| !zone_right) {
            self.faults.add(
                &at.key("timezone"),
                format!("`{zone}` is not a time zone"),
                "as in `Europe/Berlin` or `UTC`".to_owned(),
            );
        }
        let text = given.schedule.as_deref().unwrap_or(d::LAG_SCHEDULE);
        let on_calendar = schedule::on_calendar(text, zone.filter(|_| zone_right)).unwrap_or_else(|error| {
            let help = "as in `hourly`, `*-*-* *:05:00` or `5 * * * *`".to_owned();
            self.faults.add(&at.key("schedule"), error, help);
            String::new()
        });
        let high = or_default(given.high, d::LAG_HIGH);
        let medium = or_default(given.medium, d::LAG_MEDIUM);
        if medium > high {
            let help = "`high` is the greater lag".to_owned();
            let key = if given.medium.is_some() { "medium" } else { "high" };
            self.faults.add(&at.key(key), "`medium` is greater than `high`", help);
        }
        for (index, to) in given.to.iter().enumerate() {
            self.mailbox(&at.key("to").index(index), to);
        }
        LagReport { on_calendar, high, medium, to: given.to.clone() }
    }
}

fn or_default(given: Option<Span>, default: &str) -> Duration {
    given.map_or_else(|| quantity::duration(default).unwrap_or_default(), |span| span.0)
}

fn reason(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        return "there is no such file".to_owned();
    }
    error.to_string()
}
