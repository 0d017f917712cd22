//! The lag mail.

use super::text::{distance, headline, scn, text};
use super::{LagReport, Level, Status};
use crate::alert::{Composer, Mail, MailError, MailParts};
use minijinja::value::Serde;
use minijinja::{Value, context};

/// Partitions in the HTML part; the text part has them all.
const ROWS_MAX: usize = 200;

/// Makes the mail of a report. It is made whatever could not be read: that then stands in it.
pub fn lag_mail(composer: &Composer, report: &LagReport, to: &[String]) -> Result<Mail, MailError> {
    let headline = headline(report);
    let title = match report.problems.len() {
        0 => headline.clone(),
        1 => format!("{headline}; 1 thing could not be read"),
        count => format!("{headline}; {count} things could not be read"),
    };
    let colour = match report.level {
        Level::High => "#c4282d",
        Level::Medium => "#b36b00",
        Level::Info => "#1d7a3c",
    };
    let context = context! {
        title => title.clone(),
        headline,
        colour,
        level => report.level.to_string(),
        text => text(report),
        problems => report.problems.clone(),
        groups => Value::from(Serde(&report.groups)),
        sources => sources(report),
        partitions => report.partitions.iter().take(ROWS_MAX).map(partition).collect::<Vec<_>>(),
        hidden => report.partitions.len().saturating_sub(ROWS_MAX),
        ..composer.frame(report.at)
    };
    let parts = MailParts {
        id: format!("lag.{}", report.at.as_millisecond()),
        root: None,
        subject: format!("LEVEL-{} [{}] Lag: {title}", report.level, report.cluster),
        to,
        headers: vec![
            ("X-Aesop-Report", "lag".to_owned()),
            ("X-Aesop-Level", report.level.to_string().to_lowercase()),
        ],
        urgent: false,
    };
    composer.build(parts, "lag.txt", "lag.html", &context, report.at)
}

fn sources(report: &LagReport) -> Vec<Value> {
    let rows = report.sources.iter().map(|source| {
        let relays = source.relays.iter().map(|relay| {
            context! {
                relay => relay.relay.clone(),
                scn => scn(relay.scn),
                behind => distance(relay.behind),
                status => relay.status.to_string(),
                reason => relay.reason.clone(),
                colour => colour(relay.status),
            }
        });
        context! {
            source => source.source.clone(),
            end => source.file.as_ref().zip(source.offset).map(|(file, offset)| format!("{file}:{offset}")),
            relays => relays.collect::<Vec<_>>(),
        }
    });
    rows.collect()
}

/// A partition as the lag mail's and the status page's templates read it.
pub(crate) fn partition(lag: &super::PartitionLag) -> Value {
    context! {
        status => lag.status.to_string(),
        reason => lag.reason.clone(),
        colour => colour(lag.status),
        group => lag.group.clone(),
        source => lag.source.clone(),
        partition => lag.partition,
        owner => lag.owner.clone(),
        relay_scn => scn(lag.relay_scn),
        consumer_scn => scn(lag.consumer_scn),
        first => distance(lag.source_to_relay),
        second => distance(lag.relay_to_consumer),
        total => distance(lag.total),
    }
}

fn colour(status: Status) -> &'static str {
    match status {
        Status::Ok => "#1d7a3c",
        Status::Medium => "#b36b00",
        Status::Unknown => "#5a6572",
        Status::High | Status::Stalled => "#c4282d",
    }
}
