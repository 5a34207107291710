use super::*;

fn config(json: &str) -> ScheduleConfig {
    serde_json::from_str(json).unwrap()
}

#[test]
fn shares_are_milestones_of_any_length() {
    let shares = config(r#"{"epochs": 600, "kind": "multistep", "milestones_at": [0.6, 0.8, 0.9]}"#);
    let fixed = config(r#"{"epochs": 600, "kind": "multistep", "milestones": [360, 480, 540]}"#);
    for epoch in [0, 359, 360, 479, 480, 539, 540, 599] {
        assert_eq!(shares.lr(0.03, 7 * epoch, 7, 7 * 600), fixed.lr(0.03, 7 * epoch, 7, 7 * 600), "epoch {epoch}");
    }
    assert_eq!(shares.milestones_of(240), [144, 192, 216]);
    let mut out = Vec::new();
    config(r#"{"epochs": 9, "kind": "multistep", "milestones_at": [0.9, 1.5], "milestones": [3]}"#).problems("schedule", &mut out);
    assert_eq!(out.len(), 2, "{out:?}");
}

fn problems(json: &str) -> Vec<String> {
    let mut out = Vec::new();
    config(json).problems("schedule", &mut out);
    out
}

/// The rates of a whole run of `spe` steps per epoch.
fn rates(json: &str, base: f64, spe: u64) -> Vec<f64> {
    let config = config(json);
    let total = config.total_steps(spe);
    (0..total).map(|step| config.lr(base, step, spe, total)).collect()
}

#[test]
fn a_milestone_acts_after_that_many_completed_epochs() {
    let got = rates(r#"{"epochs": 4, "kind": "multistep", "milestones": [1, 3], "factor": 0.5}"#, 0.8, 2);
    assert_eq!(got, [0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2]);
    let ways = |epoch| (multistep(0.8, &[1, 3], 0.5, epoch), multistep_legacy(0.8, &[1, 3], 0.5, epoch + 1));
    assert!((0..6).map(ways).all(|(a, b)| a == b));
}

#[test]
fn a_cosine_per_epoch_is_constant_within_an_epoch() {
    let got = rates(r#"{"epochs": 3}"#, 0.06, 2);
    let want: Vec<f64> = (0..3).flat_map(|e| [cosine_epoch_0based(0.06, e, 3); 2]).collect();
    assert_eq!(got, want);
    assert_eq!(got[0], 0.06);
    let based = rates(r#"{"epochs": 3, "epoch_base": 1}"#, 0.06, 2);
    assert_eq!((based[0], based[5]), (cosine_epoch_1based(0.06, 1, 3), 0.0));
}

#[test]
fn a_cosine_over_steps_needs_no_epochs() {
    let by_steps = rates(r#"{"steps": 7}"#, 1.0, 100);
    let want: Vec<f64> = (0..7).map(|s| cosine_step_warmup_next(1.0, 0.0, s, 0, 7)).collect();
    assert_eq!(by_steps, want);
    assert!(by_steps.windows(2).all(|pair| pair[1] < pair[0]));
}

#[test]
fn warm_up_starts_where_it_is_told() {
    let next = rates(r#"{"epochs": 5, "per_step": true, "warmup_epochs": 2, "final_lr": 0.1}"#, 1.0, 2);
    assert_eq!(next, (0..10).map(|s| cosine_step_warmup_next(1.0, 0.1, s, 4, 10)).collect::<Vec<_>>());
    assert_eq!(next[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
    let inclusive = rates(r#"{"epochs": 5, "per_step": true, "warmup_epochs": 2, "warmup_start": 0.4}"#, 1.0, 2);
    assert_eq!(inclusive, (0..10).map(|s| cosine_step_warmup_inclusive(1.0, 0.4, 0.0, s, 4, 10)).collect::<Vec<_>>());
    let multistep = rates(r#"{"epochs": 2, "kind": "multistep", "milestones": [1], "warmup_epochs": 0.5}"#, 1.0, 4);
    assert_eq!(multistep, [0.5, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1]);
    assert_eq!(rates(r#"{"steps": 3, "kind": "constant"}"#, 0.3, 2), [0.3; 3]);
}

#[test]
fn weight_decay_follows_half_a_cosine_over_the_steps() {
    let optim = OptimConfig { lr: 0.5, weight_decay: 0.04, ..OptimConfig::default() };
    let rates = |json: &str, step| config(json).rates(&optim, step, 4, 8);
    let grows = r#"{"epochs": 2, "warmup_epochs": 1, "per_step": true, "weight_decay_final": 0.4}"#;
    let decay = |step| rates(grows, step).weight_decay.unwrap();
    assert_eq!((decay(8), decay(99)), (0.4, 0.4));
    assert!(
        (decay(0) - 0.04).abs() < 1e-15
            && (decay(4) - 0.22).abs() < 1e-15
            && (decay(2) - (0.4 - 0.36 * (1.0 + 0.5f64.sqrt()) / 2.0)).abs() < 1e-15
    );
    assert_eq!((rates(grows, 0).scheduled, rates(grows, 0).base), (0.125, 0.5));
    assert_eq!(rates(r#"{"steps": 8, "kind": "constant"}"#, 5), Rates::from(0.5));
    assert_eq!(
        problems(r#"{"steps": 8, "weight_decay_final": -1}"#),
        ["`schedule.weight_decay_final` is -1.0, must be at least 0"]
    );
}

#[test]
fn momenta_of_averages_go_from_base_to_final() {
    use MomentumSchedule::{Constant, Cosine, CosineEpoch, CosineNext};
    let at = |schedule: MomentumSchedule, step| schedule.at(0.9, 1.0, step, 3, 12);
    assert_eq!([at(Constant, 0), at(Constant, 11)], [0.9; 2]);
    assert_eq!((at(Cosine, 0), at(Cosine, 12)), (0.9, 1.0));
    assert!((0..11).all(|step| at(CosineNext, step) == at(Cosine, step + 1)) && at(CosineNext, 11) == 1.0);
    assert!((0..12).all(|step| at(CosineEpoch, step) == at(Cosine, step / 3 * 3)));
    assert_eq!(CosineEpoch.at(0.9, 1.0, 0, 0, 0), 0.9);
    let names: Vec<MomentumSchedule> = serde_json::from_str(r#"["constant", "cosine", "cosine_epoch", "cosine_next"]"#).unwrap();
    assert_eq!(names, [Constant, Cosine, CosineEpoch, CosineNext]);
}

#[test]
fn a_rate_that_no_step_changes_is_constant() {
    let constant = |json: &str| config(json).is_constant();
    assert!(constant(r#"{"kind": "constant"}"#) && constant(r#"{"kind": "multistep"}"#) && !constant("{}"));
    assert!(!constant(r#"{"kind": "constant", "warmup_epochs": 1}"#) && !constant(r#"{"kind": "multistep", "milestones": [1]}"#));
}

#[test]
fn steps_past_the_end_keep_the_final_rate() {
    let config = config(r#"{"epochs": 2, "per_step": true, "final_lr": 0.01}"#);
    assert_eq!(config.lr(1.0, 999, 5, 10), 0.01);
    assert_eq!(config.lr(1.0, 0, 0, 0), 1.0);
}

#[test]
fn exactly_one_length_and_no_idle_keys() {
    assert!(problems(r#"{"epochs": 200}"#).is_empty() && problems(r#"{"steps": 10}"#).is_empty());
    assert_eq!(problems("{}"), ["neither `schedule.epochs` nor `schedule.steps` is set, one of them must be"]);
    assert_eq!(problems(r#"{"epochs": 2, "steps": 3}"#).len(), 1);
    let all = problems(r#"{"epochs": 0, "factor": 0, "epoch_base": 2, "final_lr": -1, "milestones": [2, 1], "warmup_epochs": 3}"#);
    let keys = ["epochs", "factor", "epoch_base", "final_lr", "milestones", "warmup_epochs"];
    assert!(keys.iter().all(|key| all.iter().any(|line| line.starts_with(&format!("`schedule.{key}` ")))), "{all:#?}");
    assert_eq!(problems(r#"{"steps": 9, "epoch_base": 1, "warmup_start": 0.1}"#).len(), 2);
    assert_eq!(
        problems(r#"{"epochs": 9, "warmup_epochs": 1}"#),
        ["`schedule.warmup_epochs` with a cosine needs `schedule.per_step` = true"]
    );
}
