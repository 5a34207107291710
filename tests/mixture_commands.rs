//! `preview`, `bench mixture` and the choice of kernels, with the real binary, on every device in `UNMIX_TEST_DEVICES`.

mod common;

use common::binary::{events, json, pretrain, refuse, succeed, text, unmix};
use serde_json::Value;
use unmix::kernel::{KernelPath, Op};

fn sheet(path: &std::path::Path) -> image::RgbImage {
    image::open(path).unwrap().to_rgb8()
}

#[test]
fn a_preview_shows_every_stage_on_every_device() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("sheet.png");
    let config = common::binary::root().join("configs/quickstart.json");
    let draw = |extra: &[&str]| {
        let mut command = unmix(dir.path(), &["preview", "--out", "sheet.png", "--config"]);
        command.arg(&config).args(extra);
        let said = text(&succeed(&mut command));
        (sheet(&out), said)
    };
    for opened in common::devices() {
        let device = opened.info.name.as_str();
        let (mixed, said) = draw(&["--device", device, "--count", "3", "--scale", "1"]);
        assert!(said.contains("3 images") && said.contains(opened.info.kernels.path(Op::Mix).name()), "{said}");
        // The original, two views, and each of them after two stages: seven columns of at least 112 pixels with spaces of 14.
        assert!(mixed.width() >= 7 * 112 + 6 * 14, "{device}: a sheet of {} pixels lacks columns", mixed.width());
        let (clean, _) = draw(&["--device", device, "--count", "3", "--scale", "1", "--set", "mixture.name=none"]);
        assert!(clean.width() < mixed.width(), "{device}");
        // Pasted boxes are outlined, in a colour that grey images do not have.
        assert!(mixed.pixels().any(|p| p.0 == [213, 94, 0]), "{device}: no box is drawn");
        let (large, _) = draw(&["--device", device, "--count", "3"]);
        assert!(large.width() > mixed.width());
    }
    let few = |settings: &[&str]| {
        let sets: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        draw(&[&["--device", "cpu", "--count", "2", "--scale", "1"][..], &sets].concat()).0
    };
    let clean = few(&["mixture.name=none"]).width();
    // One column more for each mixture: of both views with each other, or of the first.
    let both = few(&["mixture.name=inputmix", "mixture.partners=2"]).width();
    assert!(both >= 5 * 112 + 4 * 14 && both > clean, "{both} pixels beside {clean}");
    let resized = few(&["mixture.name=unmix", "mixture.prob=0", "mixture.box=resize", "mixture.tau=[0.5, 0.8]"]);
    assert!(resized.width() >= 4 * 112 + 3 * 14 && resized.pixels().any(|p| p.0 == [213, 94, 0]), "no box is drawn");
    let (unmixed, _) = draw(&["--device", "cpu", "--set", "mixture.name=unmix", "--set", "views.color_space=lab", "--count", "2"]);
    let colours: std::collections::HashSet<[u8; 3]> = unmixed.pixels().map(|p| p.0).collect();
    assert!(colours.len() > 50, "the preview shows nothing");
    refuse(
        unmix(dir.path(), &["preview", "--count", "0", "--out", "x.png", "--config"]).arg(&config),
        "nothing to draw",
        "at least one",
    );
    refuse(unmix(dir.path(), &["preview", "--out", "no/such/x.png", "--config"]).arg(&config), "no/such", "check the path");
}

#[test]
fn the_mixture_bench_has_every_path_and_kind() {
    let dir = tempfile::tempdir().unwrap();
    for opened in common::devices() {
        let device = opened.info.name.as_str();
        let args = ["bench", "mixture", "--device", device, "--batch", "6", "--size", "12", "--seconds", "0.01", "--json"];
        let output = succeed(&mut unmix(dir.path(), &args));
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["device"], device);
        let lines = result["paths"].as_array().unwrap();
        for path in common::paths(&opened) {
            for kind in ["blend", "paste", "fill", "resize", "im", "ingest", "ingest_blend"] {
                let line = lines.iter().find(|line| line["path"] == path.name() && line["kind"] == kind);
                let line = line.unwrap_or_else(|| panic!("{device}: no {kind} on {}", path.name()));
                assert_eq!(line["shape"], serde_json::json!([6, 3, 12, 12]));
                for key in ["median_ms", "gb_per_s", "ratio_to_copy", "ratio_to_tensor"] {
                    assert!(line[key].as_f64().unwrap() > 0.0, "{device} {kind}: {key}");
                }
            }
        }
    }
    refuse(
        &mut unmix(dir.path(), &["bench", "mixture", "--device", "cpu", "--path", "wgsl"]),
        "`wgsl` does not run on cpu",
        "flex",
    );
}

/// A run says which kernels it took; with others its losses are the same to a few roundings; one of another device is refused.
#[test]
fn kernels_can_be_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let losses = |device: &str, name: &str, path: &str| -> Vec<f64> {
        let mut args = vec!["--device", device, "--out", name, "--quiet"];
        let (mix, ingest) = (format!("kernels.mix={path}"), format!("kernels.ingest={path}"));
        for setting in [
            &mix,
            &ingest,
            "schedule.steps=3",
            "log.every_steps=1",
            "log.preview=0",
            "eval.enabled=false",
            "mixture.global.prob=0.5",
        ] {
            args.extend(["--set", setting]);
        }
        succeed(unmix(dir.path(), &["pretrain", "--config"]).arg(common::binary::smoke()).args(args));
        let run = dir.path().join(name);
        let config = json(&run.join("config.json"));
        if path != "auto" {
            assert_eq!((&config["run"]["kernels"][0]["path"], &config["run"]["kernels"][1]["path"]), (&path.into(), &path.into()));
        }
        assert_eq!(events(&run, "start")[0]["kernels"], config["run"]["kernels"]);
        events(&run, "step").iter().map(|step| step["loss"].as_f64().unwrap()).collect()
    };
    for opened in common::devices() {
        let device = opened.info.name.as_str();
        let auto = losses(device, &format!("{device}-auto"), "auto");
        for path in common::paths(&opened) {
            let got = losses(device, &format!("{device}-{}", path.name()), path.name());
            for (got, auto) in got.iter().zip(&auto) {
                assert!((got - auto).abs() <= 1e-4 * auto, "{device} {}: {got}, auto {auto}", path.name());
            }
        }
    }
    let wrong = KernelPath::Cube.name();
    refuse(
        &mut pretrain(dir.path(), &["--set", &format!("kernels.mix={wrong}")]),
        "`kernels.mix` is cube",
        "reference, tensor, flex",
    );
    refuse(&mut pretrain(dir.path(), &["--set", "kernels.mix=wgls"]), "unknown value \"wgls\"", "schema");
}
