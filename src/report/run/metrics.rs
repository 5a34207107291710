//! `metrics.jsonl`: the events of a run, of which a reader knows some.

use serde_json::Value;

/// Numbers beyond this are not drawn: their differences overflow.
pub const DRAWABLE: f64 = 1e100;

/// The events of a run, in their order.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    events: Vec<Value>,
    /// Lines that are no JSON, the last one excepted, which a run that is being written or was killed leaves torn.
    pub damaged: usize,
}

impl Metrics {
    /// Reads the lines of a file.
    pub fn parse(bytes: &[u8]) -> Self {
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let mut metrics = Self::default();
        for line in &lines {
            match serde_json::from_slice::<Value>(line) {
                Ok(event) if event.is_object() => metrics.events.push(event),
                _ if !line.ends_with(b"\n") || line.trim_ascii().is_empty() => {}
                _ => metrics.damaged += 1,
            }
        }
        metrics
    }

    /// The events of a kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["event"] == kind)
    }

    /// The points (x, y) of all events of a kind, sorted by x. `null`, which stands for what is not finite, becomes NaN. Events without the keys have no
    /// point, and of events with the same x the last one counts.
    pub fn curve(&self, kind: &str, x: &str, y: &str) -> Vec<(f64, f64)> {
        points(self.of(kind), x, y)
    }
}

/// As [`Metrics::curve`], of any events.
pub fn points<'a>(events: impl Iterator<Item = &'a Value>, x: &str, y: &str) -> Vec<(f64, f64)> {
    let drawn = |number: f64| if number.abs() < DRAWABLE { number } else { f64::NAN };
    let number = |value: &Value| value.as_f64().map(drawn).or(value.is_null().then_some(f64::NAN));
    let point = |event: &Value| Some((event.get(x)?.as_f64()?, number(event.get(y)?)?));
    points_of(events.filter_map(point))
}

/// Points sorted by x; of those with the same x the last one counts.
pub fn points_of(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = points.collect();
    points.reverse();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.dedup_by_key(|point| point.0);
    points
}

/// The accuracy of a `knn` event in percent. Events of earlier versions name no unit, and have a share from 0 to 1.
pub fn top1(event: &Value) -> Option<f64> {
    let top1 = event["top1"].as_f64()?;
    Some(if event["unit"] == "percent" { top1 } else { 100.0 * top1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a percent of today and half of yesterday.
    #[test]
    fn an_accuracy_is_read_in_the_unit_that_it_was_written_in() {
        let read = |text: &str| top1(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"event":"knn","unit":"percent","top1":0.5}"#), Some(0.5));
        assert_eq!(read(r#"{"event":"knn","top1":0.5}"#), Some(50.0));
        assert_eq!((read(r#"{"unit":"percent","top1":null}"#), read(r#"{"event":"knn"}"#)), (None, None));
    }

    #[test]
    fn unknown_events_torn_ends_and_repeats_are_no_trouble() {
        let text = concat!(
            "{\"event\":\"epoch\",\"epoch\":1,\"loss\":3.0,\"new\":[]}\n{\"event\":\"surprise\"}\nnot json\n[1]\n\n",
            "{\"event\":\"epoch\",\"epoch\":2,\"loss\":9.0}\n{\"event\":\"epoch\",\"epoch\":2,\"loss\":null}\n{\"event\":\"epoch\",\"epoch\":3}\n",
            "{\"event\":\"epoch\",\"epo"
        );
        let metrics = Metrics::parse(text.as_bytes());
        let curve = metrics.curve("epoch", "epoch", "loss");
        assert_eq!(metrics.damaged, 2);
        assert!(curve.len() == 2 && curve[0] == (1.0, 3.0) && curve[1].1.is_nan(), "{curve:?}");
        let huge = Metrics::parse(b"{\"event\":\"epoch\",\"epoch\":1,\"loss\":1e308}\n").curve("epoch", "epoch", "loss");
        assert!(huge[0].1.is_nan(), "{huge:?}");
        assert!(Metrics::parse(b"").curve("epoch", "epoch", "loss").is_empty());
    }
}
