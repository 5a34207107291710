use super::*;
use crate::mixture::config::Name;
use crate::mixture::plan::Kind;
use crate::mixture::policy;

const CTX: Context = Context { seed: 7, epoch: 2, step: 0, height: 32, width: 24, dataset: 1000, views: 2, mixed_views: 1 };

fn im() -> MixtureConfig {
    MixtureConfig { name: Name::Im, ..Default::default() }
}

fn with_probs(global: f64, region: f64) -> MixtureConfig {
    let mut config = im();
    (config.global.prob, config.region.prob) = (global, region);
    config
}

fn batch(n: u32) -> Vec<u32> {
    (0..n).map(|i| 3 * i + 1).collect()
}

/// The rows of `image` that change something, per stage.
fn rows(plan: &MixturePlan, image: usize) -> Vec<Vec<Row>> {
    let changing = |stage: &crate::mixture::Stage| stage.passes.iter().map(|p| p[image]).filter(|r| !r.is_identity()).collect();
    plan.stages.iter().map(changing).collect()
}

fn has(plan: &MixturePlan, image: usize, kind: Kind) -> bool {
    plan.stages.iter().flat_map(|stage| &stage.passes).any(|pass| pass[image].kind == kind)
}

/// 1 - 0.9^2 globally, 1 - 0.9^4 in any way, and 2 * 0.1 + 2 * 0.1 * (1 + 0.2) = 0.44 extras per image.
#[test]
fn defaults_mix_as_often_as_the_paper() {
    let n = 40_000;
    let planned = policy(&im()).plan(&CTX, &batch(n));
    let plan = planned.plan_of(0).unwrap();
    plan.validate(n as usize + planned.extras.len(), 32, 24).unwrap();
    let share = |test: &dyn Fn(usize) -> bool| (0..n as usize).filter(|&i| test(i)).count() as f64 / f64::from(n);
    let global = share(&|i| has(plan, i, Kind::Blend));
    let any = share(&|i| has(plan, i, Kind::Blend) || has(plan, i, Kind::Paste));
    let extras = planned.extras.len() as f64 / f64::from(n);
    assert!((global - 0.19).abs() < 0.01, "{global}");
    assert!((any - 0.3439).abs() < 0.012, "{any}");
    assert!((extras - 0.44).abs() < 0.016, "{extras}");
}

#[test]
fn an_image_is_mixed_alike_in_every_batch() {
    let policy = policy(&with_probs(0.5, 0.5));
    let alone = policy.plan(&CTX, &[31]);
    let among = policy.plan(&CTX, &[4, 8, 31, 15]);
    // Partners stand at other places of the other batch: compare them by what they are.
    let resolve = |planned: &Planned, n: usize, image: usize| -> Vec<_> {
        let extra = |row: &Row| planned.extras[row.partner as usize - n].clone();
        rows(&planned.plans[0], image).into_iter().flatten().map(|row| (extra(&row), Row { partner: 0, ..row })).collect()
    };
    assert!(!resolve(&alone, 1, 0).is_empty());
    assert_eq!(resolve(&alone, 1, 0), resolve(&among, 4, 2));
    assert_eq!(policy.plan(&CTX, &[4, 8, 31, 15]), among);
    assert_ne!(policy.plan(&Context { epoch: 3, ..CTX }, &[4, 8, 31, 15]), among);
    assert_eq!(policy.plan(&Context { step: 9, ..CTX }, &[4, 8, 31, 15]), among);
}

#[test]
fn certain_gates_need_eight_extras_each_with_its_own_key() {
    let n = 5;
    let planned = policy(&with_probs(1.0, 1.0)).plan(&CTX, &batch(n));
    assert_eq!(planned.extras.len(), 8 * n as usize);
    let mut paths: Vec<_> = planned.extras.iter().map(|extra| &extra.path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), planned.extras.len());
    let plan = &planned.plans[0];
    assert_eq!((plan.stages.len(), plan.keep), (2, n as usize));
    // Own global partners are raw; region partners are themselves mixed twice, then copied.
    let mixed = |image| rows(plan, image).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(mixed(0), [2, 2]);
    let region_partner = rows(plan, 0)[1][0].partner as usize;
    assert_eq!((mixed(5), mixed(region_partner)), (vec![0, 0], vec![2, 0]));
    assert_eq!(planned.extras[region_partner - 5].path, [2, 1, REGION, 0]);
    let theirs = rows(plan, region_partner)[0][1].partner as usize;
    assert_eq!(planned.extras[theirs - 5].path, [2, 1, REGION, 0, GLOBAL, 1]);
}

#[test]
fn closed_gates_and_no_attempts_mix_nothing() {
    let mut none = with_probs(1.0, 1.0);
    (none.global.attempts, none.region.attempts) = (0, 0);
    for config in [with_probs(0.0, 0.0), none] {
        let planned = policy(&config).plan(&CTX, &batch(50));
        assert!(planned.extras.is_empty() && planned.plans[0].stages.is_empty());
        assert_eq!(planned.plans[0].keep, 50);
    }
}

#[test]
fn names_choose_the_parts() {
    let kinds = |name: Name, beta: f64| {
        let mut config = MixtureConfig { name, ..with_probs(1.0, 1.0) };
        config.region.beta = beta;
        let planned = policy(&config).plan(&CTX, &batch(20));
        let plan = planned.plans[0].clone();
        (has(&plan, 3, Kind::Blend), has(&plan, 3, Kind::Paste), planned.extras.len() / 20)
    };
    assert_eq!(kinds(Name::Global, 1.0), (true, false, 2));
    assert_eq!(kinds(Name::Region, 1.0), (false, true, 2));
    assert_eq!(kinds(Name::Im, 1.0), (true, true, 8));
    assert_eq!(kinds(Name::Im, 0.0), (true, false, 2));
    assert_eq!(kinds(Name::Region, -1.0), (false, false, 0));
}

#[test]
fn partners_of_the_batch_need_no_extras() {
    let config = MixtureConfig { partner: Some(Partner::Batch), ..with_probs(1.0, 1.0) };
    let planned = policy(&config).plan(&CTX, &batch(30));
    assert!(planned.extras.is_empty());
    planned.plans[0].validate(30, 32, 24).unwrap();
    let all = planned.plans[0].stages.iter().flat_map(|s| &s.passes).flatten();
    assert!(all.map(|row| row.partner).collect::<std::collections::BTreeSet<_>>().len() > 25);
}

#[test]
fn only_the_first_attempt_dims_the_own_image() {
    let mut config = MixtureConfig { name: Name::Region, ..with_probs(0.0, 0.5) };
    config.region.decay = 0.8;
    let planned = policy(&config).plan(&CTX, &batch(400));
    let passes = &planned.plans[0].stages[0].passes;
    let pasted = |row: &&Row| row.kind == Kind::Paste;
    assert!(passes[0].iter().filter(pasted).all(|row| row.own_scale == 0.8));
    assert!(passes[1].iter().filter(pasted).all(|row| row.own_scale == 1.0));
    let copies = passes[0].iter().filter(|row| row.kind == Kind::Copy);
    assert!(copies.clone().count() > 150 && copies.into_iter().all(|row| row.own_scale == 1.0));
}

#[test]
fn views_share_a_plan_unless_told_otherwise() {
    let shared = policy(&with_probs(0.5, 0.5)).plan(&CTX, &batch(40));
    assert_eq!(shared.plan_of(0), shared.plan_of(1));
    assert!(shared.extras.iter().all(|extra| extra.view.is_none()));
    let config = MixtureConfig { share_views: false, ..with_probs(0.5, 0.5) };
    let own = policy(&config).plan(&CTX, &batch(40));
    let t = 40 + own.extras.len();
    for view in 0..2 {
        let plan = own.plan_of(view).unwrap();
        plan.validate(t, 32, 24).unwrap();
        let read = plan.stages.iter().flat_map(|s| &s.passes).flatten().filter(|row| row.kind != Kind::Copy);
        assert!(read.into_iter().all(|row| own.extras[row.partner as usize - 40].view == Some(view as u32)));
    }
    assert_ne!(own.plan_of(0), own.plan_of(1));
    let extra = &shared.extras[0];
    assert_ne!(extra.stream(7, 0).next_u64(), extra.stream(7, 1).next_u64());
}

/// A change here changes what a resumed run would see.
#[test]
fn draws_never_change() {
    let planned = policy(&with_probs(0.5, 0.5)).plan(&CTX, &[11, 12]);
    let mut lines = Vec::new();
    for (s, stage) in planned.plans[0].stages.iter().enumerate() {
        for (p, pass) in stage.passes.iter().enumerate() {
            let changing = pass.iter().enumerate().filter(|(_, row)| !row.is_identity());
            lines.extend(
                changing
                    .map(|(i, r)| format!("{s}.{p} {i} {:?} {} {} {:?}", r.kind, r.partner, r.lambda, <[u32; 4]>::from(r.bbox))),
            );
        }
    }
    lines.extend(planned.extras.iter().map(|extra| format!("{} {:?}", extra.index, extra.path)));
    assert_eq!(lines, GOLDEN, "{lines:#?}");
}

const GOLDEN: [&str; 12] = [
    "0.0 1 Blend 4 0.7324596 [0, 0, 0, 0]",
    "0.0 5 Blend 6 0.06282012 [0, 0, 0, 0]",
    "0.1 0 Blend 2 0.86279505 [0, 0, 0, 0]",
    "0.1 5 Blend 7 0.75765693 [0, 0, 0, 0]",
    "1.0 1 Paste 5 0.6416682 [0, 7, 9, 21]",
    "1.1 0 Paste 3 0.3238844 [1, 0, 27, 11]",
    "949 [2, 11, 0, 1]",
    "371 [2, 11, 1, 1]",
    "23 [2, 12, 0, 0]",
    "996 [2, 12, 1, 0]",
    "906 [2, 12, 1, 0, 0, 0]",
    "119 [2, 12, 1, 0, 0, 1]",
];
