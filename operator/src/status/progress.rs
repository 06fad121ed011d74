//! The progress of loading, as numbers and as text.

use inferyard_crds::Loading;
use inferyard_proto::worker::v1::{FetchProgress, WorkerState};

use crate::observe::Observed;

/// The progress of the worker that is the furthest behind.
pub(super) fn loading(observed: &Observed) -> Option<Loading> {
    let reports = observed.reports.iter();
    let least = reports.min_by(|(_, a), (_, b)| {
        let fetched_first = b.fetch.is_some().cmp(&a.fetch.is_some());
        fetched_first.then(a.load_progress.total_cmp(&b.load_progress))
    });
    let (pod, report) = least?;
    let fetch = report.fetch.as_ref();
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Some(Loading {
        pod: pod.clone(),
        percent: percent(report.load_progress),
        bytes_done: fetch.map(|fetch| bytes(fetch.bytes_done)),
        bytes_total: fetch.map(|fetch| bytes(fetch.bytes_total)),
        bytes_per_second: fetch.map(|fetch| bytes(fetch.bytes_per_second)),
        remaining: fetch.and_then(remaining),
    })
}

/// The progress of a download as text.
pub(super) fn fetching(report: Option<&WorkerState>) -> String {
    let Some(fetch) = report.and_then(|report| report.fetch.as_ref()) else {
        return "the weights are being fetched".to_owned();
    };
    let left = remaining(fetch).map_or_else(String::new, |left| format!(", {left} left"));
    format!(
        "fetched {} of {} at {}/s{left}",
        size(fetch.bytes_done),
        size(fetch.bytes_total),
        size(fetch.bytes_per_second),
    )
}

/// The progress of loading as text. A note of the worker takes precedence.
pub(super) fn reading(report: &WorkerState) -> String {
    match percent(report.load_progress) {
        _ if !report.note.is_empty() => report.note.clone(),
        100.. => "the model is loaded and about to answer".to_owned(),
        percent => format!("loading the model: {percent} %"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the value is between 0 and 100"
)]
fn percent(progress: f32) -> i32 {
    (progress.clamp(0.0, 1.0) * 100.0) as i32
}

fn remaining(fetch: &FetchProgress) -> Option<String> {
    let left = fetch.bytes_total.checked_sub(fetch.bytes_done)?;
    let seconds = left.checked_div(fetch.bytes_per_second)?;
    Some(match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    })
}

/// A number of bytes in decimal units.
fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let unit = units.iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}
