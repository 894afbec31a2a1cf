use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{
    CallerIdRule, Destination, FailureClass, Id, Moment, Number, OutboundRoute, RouteStrategy, RouteTrunk,
    TenantId,
};

fn number(text: &str, prefix: bool, app: &str) -> Number {
    Number {
        id: Id::new(),
        tenant: TenantId::default(),
        number: text.into(),
        prefix,
        destination: Destination::App { name: app.into() },
        description: String::new(),
        active: true,
        created_at: Moment::now(),
        updated_at: Moment::now(),
    }
}

fn route(name: &str, priority: i32, pattern: &str, trunks: &[&str]) -> OutboundRoute {
    let trunk = |&trunk_id: &&str| RouteTrunk { trunk_id: trunk_id.into(), weight: 1, cost: None };
    OutboundRoute {
        id: Id::new(),
        tenant: TenantId::default(),
        name: name.into(),
        priority,
        pattern: pattern.into(),
        rewrite: None,
        caller_id: None,
        trunks: trunks.iter().map(trunk).collect(),
        strategy: RouteStrategy::Ordered,
        advance_on: OutboundRoute::ADVANCE_ON.to_vec(),
        setup_timeout_ms: 1_000,
        ring_timeout_ms: 2_000,
        description: String::new(),
        active: true,
        created_at: Moment::now(),
        updated_at: Moment::now(),
    }
}

fn table(routes: Vec<OutboundRoute>) -> RoutingTable {
    let (table, errors) = RoutingTable::new(Vec::new(), routes, None);
    assert!(errors.is_empty(), "{errors:?}");
    table
}

fn facts(cost_per_minute: f64, backup_trunks: &[&str], unusable: Option<&str>) -> TrunkFacts {
    TrunkFacts {
        cost_per_minute,
        backup_trunks: backup_trunks.iter().map(|&name| name.to_owned()).collect(),
        unusable: unusable.map(str::to_owned),
    }
}

fn ask<'a>(to: &'a str, trunk: Option<&'a str>, seed: u64) -> Question<'a> {
    Question { from: "+15551234567", to, trunk, seed }
}

fn usable(name: &str) -> Option<TrunkFacts> {
    (name != "none").then(|| facts(1.0, &[], None))
}

fn tried(decision: &Decision) -> Vec<&str> {
    decision.candidates.iter().map(|candidate| candidate.trunk_id.as_str()).collect()
}

#[test]
fn a_whole_number_wins_over_prefixes_and_the_longest_prefix_over_shorter_ones() {
    let numbers = vec![
        number("+4930", true, "berlin"),
        number("+49 30-123", true, "house"),
        number("+4930123", false, "desk"),
        number("", true, "anyone"),
    ];
    let (table, _) = RoutingTable::new(numbers, Vec::new(), None);
    let reached = |dialled: &str| match table.decide_inbound(dialled).destination {
        Some(Destination::App { name }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(reached("+4930123"), "desk");
    assert_eq!(reached("+49 (30) 1234"), "house");
    assert_eq!(reached("+49301"), "berlin");
    assert_eq!(reached("alice"), "anyone");
    assert_eq!(reached("é"), "anyone");
    let (empty, _) = RoutingTable::new(Vec::new(), Vec::new(), None);
    let decision = empty.decide_inbound("1");
    assert!(decision.destination.is_none() && !decision.steps[0].matched);
}

#[test]
fn a_number_that_is_not_in_use_is_not_there() {
    let idle = Number { active: false, ..number("1", false, "x") };
    let (table, _) = RoutingTable::new(vec![idle], Vec::new(), None);
    assert!(table.decide_inbound("1").destination.is_none());
}

#[test]
fn the_first_route_that_matches_decides_and_rewrites() {
    let germany = OutboundRoute {
        rewrite: Some("00${country}$2".into()),
        caller_id: Some(CallerIdRule { pattern: Some(r"\+1(\d+)".into()), rewrite: "1$1".into() }),
        ..route("germany", 10, r"\+(?<country>49)(\d+)", &["a", "b"])
    };
    let table = table(vec![route("world", 20, r"\+\d+", &["c"]), germany]);
    let decision = table.decide_outbound(ask("+49 30 1234", None, 0), usable);
    assert_eq!(decision.route.as_deref(), Some("germany"));
    assert_eq!(tried(&decision), ["a", "b"]);
    assert_eq!(decision.candidates[0].number, "0049301234");
    assert_eq!(decision.candidates[0].from, "15551234567");
    assert_eq!((decision.setup_timeout_ms, decision.ring_timeout_ms), (1_000, 2_000));
    let decision = table.decide_outbound(ask("+33123", None, 0), usable);
    assert_eq!(decision.route.as_deref(), Some("world"));
    assert!(
        decision.steps.iter().any(|step| step.rule == "route germany" && !step.matched),
        "{:?}",
        decision.steps
    );
    let decision = table.decide_outbound(ask("123", None, 0), usable);
    assert!(decision.candidates.is_empty() && decision.refusal.is_some());
}

#[test]
fn a_route_whose_trunks_cannot_be_used_leaves_the_call_to_the_next() {
    let table =
        table(vec![route("first", 1, r"\d+", &["down", "none"]), route("second", 2, r"\d+", &["up"])]);
    let trunk = |name: &str| match name {
        "down" => Some(facts(1.0, &[], Some("it is not registered: FAILED, 403 Forbidden"))),
        name => usable(name),
    };
    let decision = table.decide_outbound(ask("1", None, 0), trunk);
    assert_eq!((decision.route.as_deref(), tried(&decision)), (Some("second"), vec!["up"]));
    let why = |rule: &str| {
        let found = decision.steps.iter().find(|step| step.rule == rule);
        found.map(|step| step.why.clone()).unwrap_or_default()
    };
    assert!(why("trunk down").contains("403"));
    assert!(why("trunk none").contains("none of that name"));
}

#[test]
fn backups_come_behind_all_trunks_and_each_trunk_once() {
    let table = table(vec![route("r", 1, r"\d+", &["a", "b"])]);
    let trunk = |name: &str| {
        Some(match name {
            "a" => facts(1.0, &["c", "b", "a"], None),
            "c" => facts(1.0, &["a", "d"], Some("it does not answer")),
            _ => facts(1.0, &[], None),
        })
    };
    let decision = table.decide_outbound(ask("1", None, 0), trunk);
    assert_eq!(tried(&decision), ["a", "b", "d"], "the backup of a backup, too");
}

#[test]
fn chains_of_backups_end() {
    let table = table(vec![route("r", 1, r"\d+", &["0"])]);
    let trunk = |name: &str| {
        let next = name.parse::<u32>().map_or(0, |number| number + 1).to_string();
        Some(facts(1.0, &[&next], None))
    };
    let decision = table.decide_outbound(ask("1", None, 0), trunk);
    assert_eq!(decision.candidates.len(), decide::MAX_CANDIDATES);
}

#[test]
fn the_cheapest_is_first_and_the_route_knows_better_than_the_trunk() {
    let mut cheap = route("r", 1, r"\d+", &["a", "b", "c", "unknown"]);
    cheap.strategy = RouteStrategy::LeastCost;
    cheap.trunks[2].cost = Some(0.5);
    let trunk = |name: &str| match name {
        "a" => Some(facts(2.0, &[], None)),
        "b" => Some(facts(1.0, &[], None)),
        "c" => Some(facts(9.0, &[], None)),
        _ => None,
    };
    let decision = table(vec![cheap]).decide_outbound(ask("1", None, 0), trunk);
    assert_eq!(tried(&decision), ["c", "b", "a"]);
    assert_eq!(decision.candidates[0].cost_per_minute, 0.5);
}

#[test]
fn weights_share_calls_and_zero_is_for_when_the_others_fail() {
    let mut shared = route("r", 1, r"\d+", &["three", "one", "zero"]);
    shared.strategy = RouteStrategy::Weight;
    shared.trunks[0].weight = 3;
    shared.trunks[2].weight = 0;
    let table = table(vec![shared]);
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..4_000 {
        let decision = table.decide_outbound(ask("1", None, seed), usable);
        assert_eq!(decision.candidates.len(), 3);
        assert_eq!(decision.candidates[2].trunk_id, "zero");
        *first.entry(decision.candidates[0].trunk_id.clone()).or_default() += 1;
    }
    assert!((2_850..=3_150).contains(&first["three"]), "{first:?}");
}

#[test]
fn a_named_trunk_overrules_routes_and_the_default_is_for_the_rest() {
    let (table, _) =
        RoutingTable::new(Vec::new(), vec![route("r", 1, "1.*", &["a"])], Some("Client1_AlienVOIP".into()));
    let named = table.decide_outbound(ask("1", Some("b"), 0), usable);
    assert_eq!((tried(&named), &named.route), (vec!["b"], &None));
    let unknown = table.decide_outbound(ask("1", Some("none"), 0), usable);
    assert!(unknown.candidates.is_empty() && unknown.refusal.is_some_and(|why| why.contains("none")));
    let rest = table.decide_outbound(ask("+60123456789", None, 0), usable);
    assert_eq!(tried(&rest), ["Client1_AlienVOIP"]);
}

#[test]
fn what_cannot_be_dialled_is_refused() {
    let table = table(vec![route("r", 1, "(?s).*", &["a"])]);
    for bad in ["", " ", "1\r\nX: y", "a@b", "a b", "sip:a", "<1>", "é", &"1".repeat(129), "1;x=y", "%41"] {
        let decision = table.decide_outbound(ask(bad, None, 0), usable);
        assert!(decision.candidates.is_empty() && decision.refusal.is_some(), "{bad:?}");
    }
}

#[test]
fn a_rewriting_to_nothing_lets_the_next_route_try() {
    let nothing = OutboundRoute { rewrite: Some("$1".into()), ..route("a", 1, r"9(\d*)", &["a"]) };
    let table = table(vec![nothing, route("b", 2, r"\d+", &["b"])]);
    assert_eq!(tried(&table.decide_outbound(ask("9", None, 0), usable)), ["b"]);
    assert_eq!(tried(&table.decide_outbound(ask("91", None, 0), usable)), ["a"]);
}

#[test]
fn expressions_that_cannot_be_used_are_named() {
    let field = |route: OutboundRoute| check(&route).map_err(|error| error.field);
    let good = route("r", 1, r"^(\d+)$", &["a"]);
    assert_eq!(field(good.clone()), Ok(()));
    for bad in ["(", "a)|(b", r"(\w{1000}){1000}", &"(".repeat(100), &"a".repeat(513), r"(?=x)"] {
        assert_eq!(field(OutboundRoute { pattern: bad.into(), ..good.clone() }), Err("pattern"), "{bad}");
    }
    for bad in ["$2", "$", "${nope}", "${1", "$x", "a b", "\r\n", "<", "a@b", &"1".repeat(513)] {
        assert_eq!(
            field(OutboundRoute { rewrite: Some(bad.into()), ..good.clone() }),
            Err("rewrite"),
            "{bad:?}"
        );
    }
    let caller_id = |pattern: Option<&str>, rewrite: &str| OutboundRoute {
        caller_id: Some(CallerIdRule { pattern: pattern.map(str::to_owned), rewrite: rewrite.into() }),
        ..good.clone()
    };
    assert_eq!(field(caller_id(Some("["), "1")), Err("caller_id.pattern"));
    assert_eq!(field(caller_id(None, "$1")), Err("caller_id.rewrite"));
    assert_eq!(field(caller_id(None, "+4930$0")), Ok(()));
}

#[test]
fn anchors_are_meant_anyway() {
    let table = table(vec![route("r", 1, r"^(?:1)|(?:22)$", &["a"])]);
    for (dialled, is_carried) in [("1", true), ("22", true), ("122", false), ("11", false)] {
        let decision = table.decide_outbound(ask(dialled, None, 0), usable);
        assert_eq!(!decision.candidates.is_empty(), is_carried, "{dialled}");
    }
}

#[test]
fn failures_have_one_name_everywhere() {
    for class in FailureClass::ALL {
        let name = serde_json::to_string(&class).expect("JSON");
        assert_eq!(serde_json::from_str::<FailureClass>(&name).expect("its own name"), class);
    }
}

proptest! {
    #[test]
    fn no_pattern_no_rewriting_and_no_number_panics(
        pattern in ".{0,40}", rewrite in ".{0,40}", from in ".{0,40}", to in ".{0,40}", seed: u64
    ) {
        let mut any = route("r", 1, &pattern, &["a", "b"]);
        any.rewrite = Some(rewrite);
        any.strategy = RouteStrategy::Weight;
        let (table, _) = RoutingTable::new(vec![number(&from, true, "x")], vec![any], Some("d".into()));
        let _ = table.decide_inbound(&to);
        let question = Question { from: &from, to: &to, trunk: None, seed };
        let decision = table.decide_outbound(question, usable);
        for candidate in &decision.candidates {
            prop_assert!(is_diallable(&candidate.number));
        }
    }

    #[test]
    fn every_trunk_of_a_route_is_tried_exactly_once(weights in proptest::collection::vec(0_u32..9, 1..9), seed: u64) {
        let names: Vec<String> = (0..weights.len()).map(|index| index.to_string()).collect();
        let mut all = route("r", 1, r"\d+", &names.iter().map(String::as_str).collect::<Vec<_>>());
        for (trunk, weight) in all.trunks.iter_mut().zip(&weights) {
            trunk.weight = *weight;
        }
        all.strategy = RouteStrategy::Weight;
        let decision = table(vec![all]).decide_outbound(ask("1", None, seed), usable);
        let mut sorted = tried(&decision);
        sorted.sort_unstable();
        prop_assert_eq!(sorted, names);
    }
}
