//! From alerts to mails: groups alerts into incidents, decides what to send and when, renders each mail once to
//! bytes, and keeps it on disk until the server has taken it for every recipient.

mod email;
mod incident;
mod notify;
mod spool;

pub(crate) use email::MailParts;
pub use email::{Composer, Mail, MailError, mailbox};
pub use incident::{Grouped, IncidentState, Incidents, Kind, Limiter, Notice, group_key};
pub use notify::{DeliveryError, Notify, Smtp, SmtpError};
pub(crate) use spool::write_durably;
pub use spool::{Spool, SpoolError, SpoolStatus};
