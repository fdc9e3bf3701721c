//! What a node counts, as Prometheus reads it.
//!
//! Counters of the edges live here; what the rooms count is asked from them at each scrape, so that nothing is counted
//! twice.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use halcyon_proto::error::Refusal;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// One figure of a room at a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Without the `halcyon_` in front, and without a unit's or a counter's ending.
    pub name: &'static str,
    /// For people.
    pub help: &'static str,
    /// Labels.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: SampleValue,
}

/// A figure and its kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SampleValue {
    /// Only grows.
    Counter(u64),
    /// Goes both ways.
    Gauge(f64),
}

/// Asks the rooms.
pub type Sampler = Box<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// Which call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    service: String,
    method: String,
    code: String,
}

/// Which limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: String,
}

/// Which listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Side {
    side: &'static str,
}

/// The node's counters. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    calls: Family<Call, Histogram, fn() -> Histogram>,
    limits: Family<Limit, Counter>,
    connections: Family<Side, Gauge>,
    forwarded: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("halcyon");
        let calls: Family<Call, Histogram, fn() -> Histogram> = Family::new_with_constructor(call_buckets);
        registry.register("call_seconds", "Calls by method and outcome", calls.clone());
        let limits = Family::<Limit, Counter>::default();
        registry.register("limit_hits", "Calls and connections refused by a limit", limits.clone());
        let connections = Family::<Side, Gauge>::default();
        registry.register("connections", "Open connections", connections.clone());
        let forwarded = Counter::default();
        registry.register(
            "calls_forwarded",
            "Calls passed on to a node that holds the tenant",
            forwarded.clone(),
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
            calls,
            limits,
            connections,
            forwarded,
        }
    }
}

/// The services that a node has.
const SERVICES: [&str; 6] = ["Sync", "Sessions", "Rooms", "Queries", "Admin", "Peer"];

/// 100 us to 26 s.
fn call_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 4.0, 10))
}

impl Metrics {
    /// Asks `sampler` at each scrape, from now on.
    pub fn attach(&self, sampler: Sampler) {
        self.registry().register_collector(Box::new(Rooms(sampler)));
    }

    /// Lets go of what [`Self::attach`] brought: the rooms hold the metrics, and would never be dropped.
    pub fn detach(&self) {
        *self.registry() = Registry::default();
    }

    /// A call ended. `path` is `/halcyon.v1.Sync/Push`.
    pub fn on_call(&self, path: &str, code: &str, took: Duration) {
        let mut words = path.trim_start_matches('/').splitn(2, '/');
        let service = words.next().unwrap_or_default().trim_start_matches("halcyon.v1.");
        let method = words.next().unwrap_or_default();
        // Callers make up paths; the labels must not grow with them.
        let is_ours = code != "UNKNOWN_METHOD" && SERVICES.contains(&service);
        let (service, method) = if is_ours { (service, method) } else { ("other", "other") };
        let call = Call {
            service: service.to_owned(),
            method: method.to_owned(),
            code: code.to_owned(),
        };
        self.calls.get_or_create(&call).observe(took.as_secs_f64());
    }

    /// A limit refused something. Its name is one of ours, never a caller's.
    pub fn on_limit(&self, limit: &str) {
        let limit = limit.to_owned();
        self.limits.get_or_create(&Limit { limit }).inc();
    }

    /// Something was refused: counts where that was for a limit.
    pub fn on_refusal(&self, refusal: &Refusal) {
        if !refusal.limit.is_empty() {
            self.on_limit(&refusal.limit);
        }
    }

    /// A connection opened (1) or closed (-1).
    pub fn on_connection(&self, side: &'static str, change: i64) {
        self.connections.get_or_create(&Side { side }).inc_by(change);
    }

    /// A call was passed on.
    pub fn on_forward(&self) {
        self.forwarded.inc();
    }

    /// All of it, in Prometheus' text form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry()).expect("a String takes all that is written to it");
        text
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Rooms(Sampler);

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rooms")
    }
}

impl Collector for Rooms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let samples = (self.0)();
        // A metric is described once, and its samples follow: those of one name stand together.
        for group in samples.chunk_by(|a, b| a.name == b.name) {
            let kind = match group[0].value {
                SampleValue::Counter(_) => ConstCounter::new(0_u64).metric_type(),
                SampleValue::Gauge(_) => ConstGauge::new(0.0_f64).metric_type(),
            };
            let mut metric = encoder.encode_descriptor(group[0].name, group[0].help, None, kind)?;
            for sample in group.iter().filter(|sample| !sample.labels.is_empty()) {
                encode_value(sample.value, metric.encode_family(&sample.labels)?)?;
            }
            if let [only] = group
                && only.labels.is_empty()
            {
                encode_value(only.value, metric)?;
            }
        }
        Ok(())
    }
}

fn encode_value(value: SampleValue, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match value {
        SampleValue::Counter(value) => ConstCounter::new(value).encode(encoder),
        SampleValue::Gauge(value) => ConstGauge::new(value).encode(encoder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_read_by_name_and_label() {
        let metrics = Metrics::default();
        metrics.on_call("/halcyon.v1.Sync/Push", "OK", Duration::from_millis(2));
        metrics.on_call("/halcyon.v1.Sync/Made", "UNKNOWN_METHOD", Duration::ZERO);
        metrics.on_call("/up", "HTTP", Duration::ZERO);
        metrics.on_limit("calls_per_node");
        metrics.on_connection("client", 1);
        metrics.attach(Box::new(|| {
            let sample = |region: &str, value| Sample {
                name: "lag_change_sets",
                help: "Change sets not yet there",
                labels: vec![("region", region.to_owned())],
                value: SampleValue::Gauge(value),
            };
            vec![sample("eu-west", 1.0), sample("us-east", 2.0)]
        }));
        let text = metrics.text();
        for line in [
            r#"halcyon_call_seconds_count{service="Sync",method="Push",code="OK"} 1"#,
            r#"halcyon_call_seconds_count{service="other",method="other",code="HTTP"} 1"#,
            r#"halcyon_limit_hits_total{limit="calls_per_node"} 1"#,
            r#"halcyon_connections{side="client"} 1"#,
            r#"halcyon_lag_change_sets{region="us-east"} 2.0"#,
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert_eq!(text.matches("# HELP halcyon_lag_change_sets").count(), 1);
    }
}
