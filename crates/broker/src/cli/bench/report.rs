//! What came out of a run: for people, and as one JSON document with keys that are only ever added.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value as Json, json};

use super::engine::Tally;
use super::process::{CpuTime, Processes};

/// Latencies in microseconds.
pub(super) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Latency {
    /// `None` when nothing was recorded.
    pub(super) fn of(nanoseconds: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| as_f64(nanoseconds.value_at_quantile(quantile)) / 1e3;
        (!nanoseconds.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: as_f64(nanoseconds.max()) / 1e3,
        })
    }

    pub(super) fn to_json(&self) -> Json {
        json!({
            "p50": tenths(self.p50), "p90": tenths(self.p90), "p99": tenths(self.p99),
            "p999": tenths(self.p999), "max": tenths(self.max),
        })
    }

    pub(super) fn text(&self) -> String {
        format!(
            "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            time(self.p50),
            time(self.p90),
            time(self.p99),
            time(self.p999),
            time(self.max)
        )
    }
}

/// CPU and memory over the measured time.
pub(super) struct Cost {
    pub cpu: CpuTime,
    pub wall_s: f64,
    pub rss_before_kib: u64,
    pub rss_kib: u64,
    pub rss_peak_kib: u64,
    /// Whether the broker's process is known.
    pub broker: bool,
}

impl Cost {
    /// Of `processes`, over what has passed since `before`.
    pub(super) fn since(
        processes: &Processes,
        before: CpuTime,
        wall: Duration,
        rss_before_kib: u64,
    ) -> Self {
        Self {
            cpu: processes.cpu_time().since(before),
            wall_s: wall.as_secs_f64(),
            rss_before_kib,
            rss_kib: processes.rss_kib(),
            rss_peak_kib: processes.peak_rss_kib(),
            broker: !processes.is_empty(),
        }
    }

    /// `what` is `message` or `connect`, of which there were `number`.
    pub(super) fn add_to(&self, json: &mut Json, what: &str, number: u64) {
        let each = |cpu_s: f64| (number > 0).then(|| thousandths(cpu_s * 1e6 / as_f64(number)));
        let (key, sleeps) = (format!("cpu_us_per_{what}"), format!("sleeps_per_{what}"));
        json["generator"] = json!({
            "cpu_cores": thousandths(self.cpu.own / self.wall_s), key.as_str(): each(self.cpu.own),
        });
        if self.broker {
            json["broker"] = json!({
                "cpu_cores": thousandths(self.cpu.broker / self.wall_s), key.as_str(): each(self.cpu.broker),
                sleeps.as_str(): (number > 0).then(|| thousandths(as_f64(self.cpu.sleeps) / as_f64(number))),
                "rss_before_kib": self.rss_before_kib, "rss_kib": self.rss_kib, "rss_peak_kib": self.rss_peak_kib,
            });
        }
        json["others_cpu_cores"] = json!(thousandths(self.cpu.others() / self.wall_s));
    }

    pub(super) fn lines(&self, what: &str, number: u64) -> Vec<String> {
        let each = |cpu_s: f64| {
            if number == 0 {
                "-".to_owned()
            } else {
                format!("{:.2} µs", cpu_s * 1e6 / as_f64(number))
            }
        };
        let mut lines = Vec::new();
        if self.broker {
            lines.push(format!(
                "broker       {} of CPU a {what}   {:.2} cores   RSS {} (peak {})",
                each(self.cpu.broker),
                self.cpu.broker / self.wall_s,
                mebibytes(self.rss_kib),
                mebibytes(self.rss_peak_kib)
            ));
        }
        lines.push(format!(
            "generator    {} of CPU a {what}   {:.2} cores   all else on this machine {:.2} cores",
            each(self.cpu.own),
            self.cpu.own / self.wall_s,
            self.cpu.others() / self.wall_s
        ));
        lines
    }
}

/// The counts of a run whole, warm-up and drain included.
pub(super) fn counts_json(tally: &Tally, lost: u64) -> Json {
    json!({
        "sent": tally.sent, "acknowledged": tally.acknowledged,
        "expected": tally.expected, "received": tally.received,
        "lost": lost, "duplicated": tally.duplicated, "out_of_order": tally.out_of_order,
        "unexpected": tally.unexpected, "closed": tally.closed, "given_up": tally.given_up,
    })
}

pub(super) fn counts_line(tally: &Tally, lost: u64) -> String {
    format!(
        "delivered    {} of {}   lost {}  duplicated {}  out of order {}",
        grouped(tally.received),
        grouped(tally.expected),
        grouped(lost),
        grouped(tally.duplicated),
        grouped(tally.out_of_order)
    )
}

/// Whole numbers up to 2^53 and more than any run has.
pub(super) fn as_f64(number: u64) -> f64 {
    number as f64
}

pub(super) fn per_second(number: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        as_f64(number) / seconds
    } else {
        0.0
    }
}

pub(super) fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate as a whole number with groups.
pub(super) fn rounded(number: f64) -> String {
    let text = format!("{number:.0}");
    text.parse().map_or(text, grouped)
}

/// Microseconds in the unit that reads best.
pub(super) fn time(us: f64) -> String {
    if us < 1.0 {
        format!("{:.0} ns", us * 1e3)
    } else if us < 1e3 {
        format!("{us:.0} µs")
    } else if us < 1e6 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

pub(super) fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", as_f64(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_times_have_their_unit() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(rounded(684_305.6), "684,306");
        assert_eq!(time(0.25), "250 ns");
        assert_eq!(time(56.4), "56 µs");
        assert_eq!(time(3604.0), "3.6 ms");
        assert_eq!(time(1_500_000.0), "1.50 s");
    }

    #[test]
    fn nothing_recorded_has_no_latency() {
        let mut histogram = Histogram::new(2).unwrap();
        assert!(Latency::of(&histogram).is_none());
        histogram.record(1_000_000).unwrap();
        let latency = Latency::of(&histogram).unwrap();
        assert!((latency.p99 - 1000.0).abs() < 10.0);
        assert_eq!(
            latency.to_json()["max"].as_f64(),
            latency.to_json()["p50"].as_f64()
        );
    }
}
