use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::*;
use crate::kernel::{Choice, KernelPath, Op};
use crate::train::sinks::JsonLines;

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

fn start() -> Event {
    let [run, method, mixture, device] = ["runs/a", "moco", "im", "flex"].map(str::to_owned);
    let kernels = vec![Choice { op: Op::Mix, path: KernelPath::Tensor, reason: "a bare CPU".to_owned() }];
    let (images, step, steps, epochs, parameters) = (50_000, 0, 19_600, 200, 11_173_962);
    let (train, test) = ("data/train: 50,000 images, 10 classes".to_owned(), None);
    Event::Start { run, method, mixture, device, kernels, train, test, images, step, steps, epochs, parameters }
}

fn step(step: u64, loss: f64) -> Event {
    let (lr, gradient_norm, images_per_s, data_wait, eta_s) = (0.06, 1.25, 1234.4, 0.031, 3725.0);
    let (parts, signals) = (vec![("plain".to_owned(), loss)], vec![("positive_prob".to_owned(), 0.0123)]);
    Event::Step { step, epoch: 1, lr, loss, parts, gradient_norm, signals, images_per_s, data_wait, eta_s }
}

fn end(outcome: Outcome) -> Event {
    Event::End { outcome, step: 19_600, epoch: 200, loss: 5.1, wall_s: 4000.0, images_per_s: 99.96 }
}

fn shown(quiet: bool, events: &[Event]) -> String {
    let out = Shared::default();
    let mut terminal = Terminal { quiet, ..Terminal::lines(out.clone(), Duration::ZERO) };
    events.iter().for_each(|event| terminal.on(event).unwrap());
    out.text()
}

#[test]
fn metrics_hold_every_nth_step_and_every_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut sink = JsonLines::append(&path, 5).unwrap();
    for n in 1..=12 {
        sink.on(&step(n, if n == 7 { f64::NAN } else { 1.5 })).unwrap();
    }
    sink.on(&end(Outcome::Failed)).unwrap();
    // Still open: each line must be readable as soon as it is logged.
    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = events.iter().filter_map(|e| if let Event::Step { step, .. } = e { Some(*step) } else { None }).collect();
    assert_eq!(steps, [1, 5, 7, 10]);
    assert_eq!(events[1], step(5, 1.5));
    assert_eq!(events[4], end(Outcome::Failed));
    assert!(text.contains("\"loss\":null,\"parts\":{\"plain\":null}"), "{text}");
    assert!(matches!(&events[2], Event::Step { loss, parts, .. } if loss.is_nan() && parts[0].1.is_nan()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_the_metrics_with_a_hint() {
    let error = JsonLines::append("/dev/full", 1).unwrap().on(&step(1, 1.0)).unwrap_err();
    assert!(error.hints()[0].contains("free some space"), "{error}");
}

#[test]
fn lines_tell_the_run() {
    let warning = Event::Warning { message: "slow".to_owned() };
    let knn = Event::Knn {
        epoch: 3,
        step: 9,
        protocol: "knn-unmix".to_owned(),
        k: 200,
        unit: "percent".to_owned(),
        top1: 89.11,
        best: 90.0,
        wall_s: 2.0,
    };
    let monitor = Event::Monitor {
        epoch: 3,
        step: 9,
        images: 1024,
        feature_std: 0.0871,
        rankme: 65.21,
        rankme_features: 30.96,
        lidar: 41.25,
        alignment: 0.3125,
        uniformity: -2.871,
        linear: Some(Probed { protocol: "linear-htdt".to_owned(), layer: 6, images: 50_000, top1: 85.104, top5: 99.2 }),
        wall_s: 1.5,
    };
    let epoch = Event::Epoch {
        epoch: 3,
        step: 9,
        loss: 6.0,
        signals: vec![("positive_prob".to_owned(), 0.02)],
        wall_s: 65.0,
        images_per_s: 9.5,
        data_wait: 0.0,
        lr: 0.06,
    };
    let checkpoint =
        Event::Checkpoint { step: 9, path: "runs/a/checkpoint".to_owned(), bytes: 3 << 20, seconds: 0.5, waited_s: 0.0 };
    let text = shown(false, &[start(), step(9, 6.5), epoch, monitor, knn, checkpoint, warning, end(Outcome::Finished)]);
    let expected = "\
moco with mixture im on flex
  run      runs/a
  mix      tensor: a bare CPU
  train    data/train: 50,000 images, 10 classes
  test     none, so no kNN
  work     50,000 images, 200 epochs, 19,600 steps, 11,173,962 parameters
step 9/19600  epoch 1/200  loss 6.5000  pos 0.012  1,234 img/s  wait 3%  ETA 1h02m
epoch 3/200  loss 6.0000  pos 0.020  lr 6.000e-2  9.5 img/s  wait 0%  1m05s
monitor after epoch 3: feature std 0.0871, RankMe 65.2 (features 31.0), LiDAR 41.2, alignment 0.312, uniformity -2.87, linear-htdt 85.10 % top-1, 99.20 % top-5, 1.5s
knn-unmix (k 200) after epoch 3: 89.11 % top-1, best 90.00 %, 2.0s
checkpoint of step 9: runs/a/checkpoint (3.0 MiB, 0.5s)
warning: slow
finished 19,600 steps in 1h06m: loss 5.1000, 100.0 img/s
";
    assert_eq!(text, expected);
}

#[test]
fn quiet_leaves_the_warnings() {
    let warning = Event::Warning { message: "slow".to_owned() };
    let broken = Event::Broken { name: "a.jpg".to_owned(), reason: "truncated".to_owned(), replaced_by: "b.jpg".to_owned() };
    let text = shown(true, &[start(), step(1, 6.5), broken, warning, end(Outcome::Finished)]);
    assert_eq!(text, "warning: `a.jpg` cannot be used (truncated); `b.jpg` takes its place\nwarning: slow\n");
}

#[test]
fn step_lines_are_rare_and_broken_images_are_capped() {
    let out = Shared::default();
    let mut terminal = Terminal::lines(out.clone(), Duration::from_secs(3600));
    (1..100).for_each(|n| terminal.on(&step(n, 1.0)).unwrap());
    assert_eq!(out.text().lines().count(), 1);
    let broken = Event::Broken { name: "a".to_owned(), reason: "b".to_owned(), replaced_by: "c".to_owned() };
    (0..100).for_each(|_| terminal.on(&broken).unwrap());
    assert_eq!(out.text().lines().count(), 1 + 10 + 1);
    assert!(out.text().ends_with("metrics.jsonl only\n"));
}

#[test]
fn a_lost_terminal_does_not_end_the_run() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    Terminal::lines(Closed, Duration::ZERO).on(&start()).unwrap();
}

#[test]
fn numbers_read_well() {
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!(
        [0.04, 59.6, 61.0, 3725.0, 183_600.0, f64::NAN, -1.0].map(duration),
        ["0.0s", "1m00s", "1m01s", "1h02m", "2d03h", "?", "?"]
    );
    assert_eq!([9.96, 0.25, 1e6, f64::INFINITY].map(rate), ["10.0", "0.2", "1,000,000", "inf"]);
}
