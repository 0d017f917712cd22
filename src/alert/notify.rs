//! How a mail leaves this host.

use crate::monitor::config::{EmailConfig, MailTls};
use crate::secret::Secret;
use futures_util::future::BoxFuture;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for the SMTP server at each step.
const SMTP_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a mail was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Later it may be: the server is away, busy, or does not let us in at present.
    #[error("{0}")]
    Transient(String),
    /// It never will be: this recipient, or this mail.
    #[error("{0}")]
    Permanent(String),
}

/// Takes mails to one recipient at a time: one bad address must not cost the others theirs.
pub trait Notify: Send + Sync + std::fmt::Debug {
    /// Sends the bytes of a mail as they are.
    fn deliver<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
        mail: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DeliveryError>>;
}

/// Why mail cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// A file it needs.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// TLS.
    #[error("cannot use TLS with {host}")]
    Tls {
        /// The server.
        host: String,
        /// Why.
        source: lettre::transport::smtp::Error,
    },
}

/// Mail by SMTP.
#[derive(Debug)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    server: String,
}

impl Smtp {
    /// Reads password and authority from their files. Nothing is connected yet.
    pub fn new(config: &EmailConfig) -> Result<Self, SmtpError> {
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
            .port(config.port)
            .timeout(Some(SMTP_TIMEOUT))
            .tls(tls(config)?);
        if let Some(user) = &config.user {
            let password = match &config.password_file {
                Some(path) => Secret::new(String::from_utf8_lossy(&read(path)?).trim_end_matches('\n')),
                None => Secret::new(""),
            };
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(Self { transport: builder.build(), server: format!("{}:{}", config.host, config.port) })
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, SmtpError> {
    std::fs::read(path).map_err(|source| SmtpError::Read { path: path.clone(), source })
}

fn tls(config: &EmailConfig) -> Result<Tls, SmtpError> {
    let parameters = || {
        let failed = |source| SmtpError::Tls { host: config.host.clone(), source };
        let mut builder = TlsParameters::builder(config.host.clone());
        if let Some(path) = &config.ca_certificate {
            builder = builder.add_root_certificate(Certificate::from_pem(&read(path)?).map_err(failed)?);
        }
        builder.build_rustls().map_err(failed)
    };
    Ok(match config.tls {
        MailTls::None => Tls::None,
        // Never in the clear because somebody on the way took STARTTLS out of the greeting.
        MailTls::Starttls => Tls::Required(parameters()?),
        MailTls::Implicit => Tls::Wrapper(parameters()?),
    })
}

impl Notify for Smtp {
    fn deliver<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
        mail: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            let address = |text: &str| {
                let bare =
                    super::mailbox(text).map_err(|error| DeliveryError::Permanent(error.to_string()))?;
                Ok::<Address, DeliveryError>(bare.email)
            };
            let envelope = Envelope::new(Some(address(from)?), vec![address(to)?])
                .map_err(|error| DeliveryError::Permanent(error.to_string()))?;
            self.transport.send_raw(&envelope, mail).await.map(|_| ()).map_err(|error| self.classify(&error))
        })
    }
}

impl Smtp {
    fn classify(&self, error: &lettre::transport::smtp::Error) -> DeliveryError {
        let mut reason = format!("{}: {error}", self.server);
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            let text = source.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            cause = source.source();
        }
        // A refused login is this deployment's mistake, and an operator's remedy makes the mail go out.
        let login = matches!(error.status().map(u16::from), Some(530 | 534 | 535 | 538));
        if error.is_permanent() && !login {
            DeliveryError::Permanent(reason)
        } else {
            DeliveryError::Transient(reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    /// A server that speaks enough SMTP for one connection at a time; `answers` maps the start of a line to a reply.
    async fn server(answers: &'static [(&'static str, &'static str)]) -> (u16, Arc<Mutex<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(String::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                stream.write_all(b"220 test\r\n").await.unwrap();
                let mut data = false;
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                        break;
                    }
                    log.lock().unwrap().push_str(&line);
                    data &= line != ".\r\n";
                    if data {
                        continue;
                    }
                    let special = answers.iter().find(|(start, _)| line.starts_with(start));
                    let reply = match special {
                        Some((_, reply)) => reply,
                        None if line.starts_with("EHLO") => "250 test",
                        None if line.starts_with("DATA") => "354 go on",
                        None => "250 ok",
                    };
                    data = reply.starts_with("354");
                    stream.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
                }
            }
        });
        (port, seen)
    }

    fn smtp(port: u16, tls: MailTls) -> Smtp {
        Smtp::new(&EmailConfig {
            host: "127.0.0.1".to_owned(),
            port,
            tls,
            user: None,
            password_file: None,
            ca_certificate: None,
            from: "aesop <aesop@example.com>".to_owned(),
            to: Vec::new(),
        })
        .unwrap()
    }

    async fn deliver(smtp: &Smtp, to: &str) -> Result<(), DeliveryError> {
        smtp.deliver("aesop <aesop@example.com>", to, b"Subject: x\r\n\r\n.leading dot\r\n").await
    }

    #[tokio::test]
    async fn sends_the_bytes_and_tells_refused_from_later() {
        let (port, seen) =
            server(&[("RCPT TO:<bad@", "550 no such user"), ("RCPT TO:<busy@", "451 greylisted")]).await;
        let smtp = smtp(port, MailTls::None);
        deliver(&smtp, "Ops <ops@example.com>").await.unwrap();
        let text = seen.lock().unwrap().clone();
        assert!(
            text.contains("MAIL FROM:<aesop@example.com>") && text.contains("\r\n..leading dot\r\n"),
            "{text}"
        );
        let refused = deliver(&smtp, "bad@example.com").await.unwrap_err();
        assert!(
            matches!(&refused, DeliveryError::Permanent(why) if why.contains("no such user")),
            "{refused:?}"
        );
        let later = deliver(&smtp, "busy@example.com").await.unwrap_err();
        assert!(matches!(&later, DeliveryError::Transient(why) if why.contains("greylisted")), "{later:?}");
    }

    #[tokio::test]
    async fn never_in_the_clear_when_starttls_is_asked_for() {
        let (port, seen) = server(&[]).await;
        let error = deliver(&smtp(port, MailTls::Starttls), "ops@example.com").await.unwrap_err();
        assert!(matches!(error, DeliveryError::Transient(_)), "{error:?}");
        assert!(!seen.lock().unwrap().contains("MAIL FROM"));
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_asked_again() {
        let error = deliver(&smtp(1, MailTls::None), "ops@example.com").await.unwrap_err();
        assert!(
            matches!(&error, DeliveryError::Transient(why) if why.starts_with("127.0.0.1:1: ")),
            "{error:?}"
        );
    }
}
