//! Mails: text and HTML from templates, headers for threads and filters, rendered once to bytes.

use super::incident::{Kind, Notice};
use crate::rule::{Alert, Phase, Severity, human};
use jiff::Timestamp;
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::time::SystemTime;

/// A mail ready for the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Names it, on disk and in its Message-ID.
    pub id: String,
    /// Its subject.
    pub subject: String,
    /// All of it, headers included.
    pub bytes: Vec<u8>,
}

/// Why a mail could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// An address.
    #[error("`{address}` is no mail address: {reason}")]
    Address {
        /// As it stands in the configuration.
        address: String,
        /// Why.
        reason: String,
    },
    /// A template.
    #[error("cannot render the mail's {template}")]
    Template {
        /// Which.
        template: &'static str,
        /// Why.
        source: minijinja::Error,
    },
    /// A header or the body.
    #[error("cannot build the mail")]
    Build(#[from] lettre::error::Error),
}

/// Reads `ops@example.com` or `Ops <ops@example.com>`.
pub fn mailbox(address: &str) -> Result<Mailbox, MailError> {
    address.parse().map_err(|error: lettre::address::AddressError| MailError::Address {
        address: address.to_owned(),
        reason: error.to_string(),
    })
}

/// Makes mails of one cluster.
#[derive(Debug)]
pub struct Composer {
    /// Cluster name.
    pub cluster: String,
    /// The monitor's host.
    pub monitor: String,
    /// The status page.
    pub url: Option<String>,
    /// Sender.
    pub from: String,
    environment: Environment<'static>,
}

/// What a mail is made of besides its parts.
#[derive(Debug)]
pub(crate) struct MailParts<'a> {
    pub(crate) id: String,
    /// The first mail of the thread, unless this is it.
    pub(crate) root: Option<String>,
    pub(crate) subject: String,
    pub(crate) to: &'a [String],
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) urgent: bool,
}

const RED: &str = "#c4282d";
const AMBER: &str = "#b36b00";
const GREEN: &str = "#1d7a3c";

pub(crate) fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => RED,
        Severity::Warning => AMBER,
    }
}

impl Composer {
    /// Parses the templates.
    pub fn new(cluster: &str, monitor: &str, url: Option<&str>, from: &str) -> Result<Self, MailError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|source| MailError::Template { template: "syntax", source })?);
        environment.add_filter("code", code);
        let templates = [
            ("base.html", include_str!("../../templates/email/base.html.j2")),
            ("alert.txt", include_str!("../../templates/email/alert.txt.j2")),
            ("alert.html", include_str!("../../templates/email/alert.html.j2")),
            ("digest.txt", include_str!("../../templates/email/digest.txt.j2")),
            ("digest.html", include_str!("../../templates/email/digest.html.j2")),
            ("lag.txt", include_str!("../../templates/email/lag.txt.j2")),
            ("lag.html", include_str!("../../templates/email/lag.html.j2")),
        ];
        for (template, source) in templates {
            environment
                .add_template(template, source)
                .map_err(|source| MailError::Template { template, source })?;
        }
        mailbox(from)?;
        let (cluster, monitor, from) = (cluster.to_owned(), monitor.to_owned(), from.to_owned());
        Ok(Self { cluster, monitor, url: url.map(str::to_owned), from, environment })
    }

    /// The mail of a notice. `symptoms` are alerts that it explains.
    pub fn notice(
        &self,
        notice: &Notice,
        symptoms: &[String],
        to: &[String],
        now: Timestamp,
    ) -> Result<Mail, MailError> {
        let (state, colour) = state(notice);
        let context = context! {
            kind => Value::from(Serde(notice.kind)),
            state,
            colour,
            title => notice.title(),
            began => stamp(notice.began),
            lasted => lasted(notice.began, now),
            firing => notice.firing.iter().map(|alert| row(alert, now)).collect::<Vec<_>>(),
            resolved => notice.resolved.iter().map(|r| row(&r.alert, r.at)).collect::<Vec<_>>(),
            symptoms => Value::from(Serde(symptoms)),
            runbooks => runbooks(notice),
            ..self.frame(now)
        };
        let hosts: Vec<&str> =
            alerts(notice).filter_map(|a| a.labels.get("host").map(String::as_str)).collect();
        let rules: Vec<&str> = alerts(notice).map(|a| a.rule.as_str()).collect();
        let envelope = MailParts {
            id: format!("{}.{}", notice.thread, notice.number),
            root: (notice.number > 0).then(|| format!("{}.0", notice.thread)),
            subject: format!("[{}] {state}: {}", self.cluster, notice.title()),
            to,
            headers: vec![
                ("X-Aesop-State", state.to_lowercase()),
                ("X-Aesop-Severity", notice.severity().to_string()),
                ("X-Aesop-Incident", notice.key.clone()),
                ("X-Aesop-Host", unique(hosts)),
                ("X-Aesop-Rule", unique(rules)),
            ],
            urgent: notice.kind == Kind::Problem && notice.severity() == Severity::Critical,
        };
        self.build(envelope, "alert.txt", "alert.html", &context, now)
    }

    /// One mail for what the rate limit held back.
    pub fn digest(
        &self,
        notices: &[Notice],
        per_hour: u32,
        to: &[String],
        now: Timestamp,
    ) -> Result<Mail, MailError> {
        let rows = notices.iter().map(|notice| {
            let (state, colour) = state(notice);
            context! { state, colour, title => notice.title(), began => stamp(notice.began) }
        });
        let title = format!("{} incidents in one mail", notices.len());
        let context = context! {
            title => title.clone(),
            colour => RED,
            per_hour,
            notices => rows.collect::<Vec<_>>(),
            ..self.frame(now)
        };
        let envelope = MailParts {
            id: format!("digest.{}", now.as_millisecond()),
            root: None,
            subject: format!("[{}] DIGEST: {title}", self.cluster),
            to,
            headers: vec![("X-Aesop-State", "digest".to_owned())],
            urgent: false,
        };
        self.build(envelope, "digest.txt", "digest.html", &context, now)
    }

    /// What every template may use.
    pub(crate) fn frame(&self, now: Timestamp) -> Value {
        context! { cluster => self.cluster.clone(), monitor => self.monitor.clone(), url => self.url.clone(), now => stamp(now) }
    }

    pub(crate) fn build(
        &self,
        envelope: MailParts<'_>,
        text: &'static str,
        html: &'static str,
        context: &Value,
        now: Timestamp,
    ) -> Result<Mail, MailError> {
        let render = |template: &'static str| {
            let rendered = self.environment.get_template(template).and_then(|t| t.render(context));
            rendered.map_err(|source| MailError::Template { template, source })
        };
        let message_id = |id: &str| format!("<{id}@aesop.{}>", self.cluster);
        // A line break in a summary must not end the header.
        let subject: String =
            envelope.subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        let mut builder = Message::builder()
            .from(mailbox(&self.from)?)
            .subject(subject.clone())
            .date(SystemTime::from(now))
            .message_id(Some(message_id(&envelope.id)));
        for address in envelope.to {
            builder = builder.to(mailbox(address)?);
        }
        if let Some(root) = &envelope.root {
            builder = builder.in_reply_to(message_id(root)).references(message_id(root));
        }
        let mut headers = vec![
            // Out-of-office replies stay away.
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("List-Id", format!("aesop {0} <aesop.{0}>", self.cluster)),
            ("X-Aesop-Cluster", self.cluster.clone()),
        ];
        headers.extend(envelope.headers);
        if envelope.urgent {
            headers.push(("X-Priority", "1".to_owned()));
        }
        for (name, value) in headers {
            let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            builder = builder.raw_header(HeaderValue::new(HeaderName::new_from_ascii_str(name), value));
        }
        // The same mail has the same bytes, whenever it is made.
        let mut boundary = String::from("aesop-");
        for byte in Sha256::digest(&envelope.id).iter().take(8) {
            write!(boundary, "{byte:02x}").ok();
        }
        let body = MultiPart::alternative()
            .boundary(boundary)
            .singlepart(SinglePart::plain(render(text)?))
            .singlepart(SinglePart::html(render(html)?));
        let message = builder.multipart(body)?;
        Ok(Mail { id: envelope.id, subject, bytes: message.formatted() })
    }
}

fn alerts(notice: &Notice) -> impl Iterator<Item = &Alert> {
    notice.firing.iter().chain(notice.resolved.iter().map(|resolved| &resolved.alert))
}

fn unique(mut words: Vec<&str>) -> String {
    words.sort_unstable();
    words.dedup();
    words.join(", ")
}

fn state(notice: &Notice) -> (&'static str, &'static str) {
    match (notice.kind, notice.severity()) {
        (Kind::Resolved, _) => ("RESOLVED", GREEN),
        (Kind::Reminder, Severity::Critical) => ("STILL CRITICAL", RED),
        (Kind::Reminder, Severity::Warning) => ("STILL WARNING", AMBER),
        (Kind::Problem | Kind::Update, Severity::Critical) => ("CRITICAL", RED),
        (Kind::Problem | Kind::Update, Severity::Warning) => ("WARNING", AMBER),
    }
}

fn row(alert: &Alert, until: Timestamp) -> Value {
    context! {
        severity => alert.severity.to_string(),
        colour => colour(alert.severity),
        summary => alert.summary.clone(),
        since => stamp(alert.track.since),
        until => stamp(until),
        lasted => lasted(alert.track.since, until),
        no_data => alert.track.phase == Phase::NoData,
    }
}

fn runbooks(notice: &Notice) -> Vec<String> {
    let mut runbooks: Vec<String> = Vec::new();
    for runbook in notice.firing.iter().map(|alert| alert.runbook.trim().to_owned()) {
        if !runbook.is_empty() && !runbooks.contains(&runbook) {
            runbooks.push(runbook);
        }
    }
    runbooks
}

/// `2026-11-22 15:02:53 UTC`.
pub(crate) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn lasted(from: Timestamp, to: Timestamp) -> String {
    human::seconds(to.duration_since(from).as_secs_f64().max(0.0))
}

/// Text between back quotes in a fixed-width font; everything is escaped first.
fn code(text: &str) -> Value {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        let mut safe = String::new();
        for c in part.chars() {
            match c {
                '&' => safe.push_str("&amp;"),
                '<' => safe.push_str("&lt;"),
                '>' => safe.push_str("&gt;"),
                '"' => safe.push_str("&quot;"),
                c => safe.push(c),
            }
        }
        if index % 2 == 1 {
            let style = "font:13px ui-monospace,Menlo,Consolas,monospace;background:#e8ebef;padding:1px 4px";
            write!(out, "<code style=\"{style}\">{safe}</code>").ok();
        } else {
            out.push_str(&safe);
        }
    }
    Value::from_safe_string(out)
}

#[cfg(test)]
mod tests {
    use super::super::incident::tests::{alert, at};
    use super::*;
    use crate::rule::Resolved;
    use expect_test::{Expect, expect};

    fn composer() -> Composer {
        let url = Some("http://10.0.0.41:9199");
        Composer::new("shop", "m1", url, "aesop <aesop@example.com>").unwrap()
    }

    fn notice(kind: Kind) -> Notice {
        let down = alert("service_down", "k1", "kafka", Severity::Critical);
        let over = kind == Kind::Resolved;
        Notice {
            key: "k1/kafka".to_owned(),
            kind,
            firing: if over { Vec::new() } else { vec![down.clone()] },
            resolved: if over { vec![Resolved { alert: down, at: at(250) }] } else { Vec::new() },
            began: at(0),
            thread: "k1_kafka.1".to_owned(),
            number: u32::from(over),
        }
    }

    fn check(mail: &Mail, expected: &Expect) {
        let text = String::from_utf8(mail.bytes.clone()).unwrap().replace("\r\n", "\n");
        // The HTML part is looked at, not compared.
        let text = text.split("Content-Type: text/html").next().unwrap();
        expected.assert_eq(text);
    }

    #[test]
    fn a_problem() {
        let symptoms = ["3 partitions led by k2 are under-replicated".to_owned()];
        let to = ["ops@example.com".to_owned(), "Night <night@example.com>".to_owned()];
        let mail = composer().notice(&notice(Kind::Problem), &symptoms, &to, at(35)).unwrap();
        check(
            &mail,
            &expect![[r#"
            From: aesop <aesop@example.com>
            Subject: [shop] CRITICAL: kafka is down on k1: inactive (dead)
            Date: Sun, 22 Nov 2026 14:50:35 +0000
            Message-ID: <k1_kafka.1.0@aesop.shop>
            To: ops@example.com, Night <night@example.com>
            Auto-Submitted: auto-generated
            List-Id: aesop shop <aesop.shop>
            X-Aesop-Cluster: shop
            X-Aesop-State: critical
            X-Aesop-Severity: critical
            X-Aesop-Incident: k1/kafka
            X-Aesop-Host: k1
            X-Aesop-Rule: service_down
            X-Priority: 1
            MIME-Version: 1.0
            Content-Type: multipart/alternative; boundary="aesop-2a5f77c750f1fca6"

            --aesop-2a5f77c750f1fca6
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: 7bit

            CRITICAL: kafka is down on k1: inactive (dead)
            Since 2026-11-22 14:50:00 UTC (35 s).

            Also seen, and probably because of it (not mailed by themselves):
              3 partitions led by k2 are under-replicated

            What to do:
              `journalctl -u aesop-kafka.service -n 50` on k1

            Status: http://10.0.0.41:9199

            -- 
            aesop on m1, cluster shop, 2026-11-22 14:50:35 UTC

            --aesop-2a5f77c750f1fca6
        "#]],
        );
    }

    #[test]
    fn a_resolved_one_belongs_to_the_thread() {
        let mail = composer().notice(&notice(Kind::Resolved), &[], &["ops@example.com".to_owned()], at(250));
        check(
            &mail.unwrap(),
            &expect![[r#"
            From: aesop <aesop@example.com>
            Subject: [shop] RESOLVED: kafka is down on k1: inactive (dead)
            Date: Sun, 22 Nov 2026 14:54:10 +0000
            Message-ID: <k1_kafka.1.1@aesop.shop>
            To: ops@example.com
            In-Reply-To: <k1_kafka.1.0@aesop.shop>
            References: <k1_kafka.1.0@aesop.shop>
            Auto-Submitted: auto-generated
            List-Id: aesop shop <aesop.shop>
            X-Aesop-Cluster: shop
            X-Aesop-State: resolved
            X-Aesop-Severity: critical
            X-Aesop-Incident: k1/kafka
            X-Aesop-Host: k1
            X-Aesop-Rule: service_down
            MIME-Version: 1.0
            Content-Type: multipart/alternative; boundary="aesop-43dc40992e2add35"

            --aesop-43dc40992e2add35
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: 7bit

            RESOLVED: kafka is down on k1: inactive (dead)
            It lasted 4 m 10 s, since 2026-11-22 14:50:00 UTC.

            Status: http://10.0.0.41:9199

            -- 
            aesop on m1, cluster shop, 2026-11-22 14:54:10 UTC

            --aesop-43dc40992e2add35
        "#]],
        );
    }

    #[test]
    fn several_alerts_and_hostile_text() {
        let mut notice = notice(Kind::Update);
        let mut second = alert("own", "k1", "kafka", Severity::Warning);
        second.summary = "<b>\r\nBcc: x@y ü".to_owned();
        second.track.phase = Phase::NoData;
        notice.firing.push(second);
        notice.key = "k1\r\nBcc: x@y".to_owned();
        let mail = composer().notice(&notice, &[], &["ops@example.com".to_owned()], at(400)).unwrap();
        check(
            &mail,
            &expect![[r#"
            From: aesop <aesop@example.com>
            Subject: [shop] CRITICAL: kafka is down on k1: inactive (dead) (and 1 more)
            Date: Sun, 22 Nov 2026 14:56:40 +0000
            Message-ID: <k1_kafka.1.0@aesop.shop>
            To: ops@example.com
            Auto-Submitted: auto-generated
            List-Id: aesop shop <aesop.shop>
            X-Aesop-Cluster: shop
            X-Aesop-State: critical
            X-Aesop-Severity: critical
            X-Aesop-Incident: k1  Bcc: x@y
            X-Aesop-Host: k1
            X-Aesop-Rule: own, service_down
            MIME-Version: 1.0
            Content-Type: multipart/alternative; boundary="aesop-2a5f77c750f1fca6"

            --aesop-2a5f77c750f1fca6
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: quoted-printable

            CRITICAL: kafka is down on k1: inactive (dead) (and 1 more)
            Since 2026-11-22 14:50:00 UTC (6 m 40 s).

            Firing:
              CRITICAL  kafka is down on k1: inactive (dead)
                        since 2026-11-22 14:50:00 UTC
              WARNING  <b>
            Bcc: x@y =C3=BC
                        since 2026-11-22 14:50:00 UTC, no readings at present

            What to do:
              `journalctl -u aesop-kafka.service -n 50` on k1

            Status: http://10.0.0.41:9199

            --=20
            aesop on m1, cluster shop, 2026-11-22 14:56:40 UTC

            --aesop-2a5f77c750f1fca6
        "#]],
        );
        let text = String::from_utf8(mail.bytes).unwrap();
        let headers = text.split("\r\n\r\n").next().unwrap();
        assert!(text.contains("&lt;b&gt;") && !headers.contains("\nBcc:"), "{text}");
    }

    #[test]
    fn a_digest_and_a_bad_address() {
        let notices = [notice(Kind::Problem), notice(Kind::Resolved)];
        let mail = composer().digest(&notices, 30, &["ops@example.com".to_owned()], at(400)).unwrap();
        check(
            &mail,
            &expect![[r#"
            From: aesop <aesop@example.com>
            Subject: [shop] DIGEST: 2 incidents in one mail
            Date: Sun, 22 Nov 2026 14:56:40 +0000
            Message-ID: <digest.1795359400000@aesop.shop>
            To: ops@example.com
            Auto-Submitted: auto-generated
            List-Id: aesop shop <aesop.shop>
            X-Aesop-Cluster: shop
            X-Aesop-State: digest
            MIME-Version: 1.0
            Content-Type: multipart/alternative; boundary="aesop-6b36e0b9c782c393"

            --aesop-6b36e0b9c782c393
            Content-Type: text/plain; charset=utf-8
            Content-Transfer-Encoding: quoted-printable

            2 more incidents than the limit of 30 mails an hour allows to mail one by o=
            ne:

              CRITICAL  kafka is down on k1: inactive (dead)
                        since 2026-11-22 14:50:00 UTC
              RESOLVED  kafka is down on k1: inactive (dead)
                        since 2026-11-22 14:50:00 UTC

            Status: http://10.0.0.41:9199

            --=20
            aesop on m1, cluster shop, 2026-11-22 14:56:40 UTC

            --aesop-6b36e0b9c782c393
        "#]],
        );
        let error = composer().digest(&notices, 30, &["nobody".to_owned()], at(400)).unwrap_err();
        expect!["`nobody` is no mail address: Invalid input"].assert_eq(&error.to_string());
    }

    #[test]
    fn code_is_marked_and_everything_is_escaped() {
        let html = code("run `a < b` & see").to_string();
        assert!(
            html.starts_with("run <code style=") && html.ends_with(">a &lt; b</code> &amp; see"),
            "{html}"
        );
    }
}
