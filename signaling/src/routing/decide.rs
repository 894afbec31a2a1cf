//! The decision about one call, and why.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::pattern::{is_diallable, normalized};
use super::table::{RoutingTable, Rule};
use crate::model::{Destination, FailureClass, OutboundRoute, RouteStrategy};

/// What is to be decided.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The calling number.
    pub from: &'a str,
    /// The dialled number.
    pub to: &'a str,
    /// The trunk that the call is to take, whatever the routes say.
    pub trunk: Option<&'a str>,
    /// Chance, for the strategy `weight`: any number.
    pub seed: u64,
}

/// What the routes need to know of a trunk.
#[derive(Clone, Debug, PartialEq)]
pub struct TrunkFacts {
    /// What a minute costs.
    pub cost_per_minute: f64,
    /// Those that are tried when it fails.
    pub backup_trunks: Vec<String>,
    /// Why no call can go through it now.
    pub unusable: Option<String>,
}

/// What was decided about a call that leaves, or comes, with the way there.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Decision {
    /// The dialled number, without spaces and the like.
    pub number: String,
    /// What a number of the tenant reaches, for a call that comes.
    pub destination: Option<Destination>,
    /// The route that decided.
    pub route: Option<String>,
    /// What is tried, in this order.
    pub candidates: Vec<Candidate>,
    /// After which failures the next candidate is tried.
    pub advance_on: Vec<FailureClass>,
    /// How long one may take to give any sign of the call going on.
    pub setup_timeout_ms: u32,
    /// How long it may ring at one.
    pub ring_timeout_ms: u32,
    /// Why nothing is tried, if nothing is.
    pub refusal: Option<String>,
    /// Every rule that was looked at.
    pub steps: Vec<Step>,
}

/// One way that a call may take.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Candidate {
    /// The trunk.
    pub trunk_id: String,
    /// What is dialled there.
    pub number: String,
    /// As whom.
    pub from: String,
    /// What a minute costs.
    pub cost_per_minute: f64,
}

/// A rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    /// The rule, such as `route germany` or `trunk skyetel_main`.
    pub rule: String,
    /// Whether it had a part in the decision.
    pub matched: bool,
    /// Why, or why not.
    pub why: String,
}

impl Decision {
    fn new(number: String) -> Self {
        Self {
            number,
            destination: None,
            route: None,
            candidates: Vec::new(),
            advance_on: OutboundRoute::ADVANCE_ON.to_vec(),
            setup_timeout_ms: OutboundRoute::SETUP_TIMEOUT_MS,
            ring_timeout_ms: OutboundRoute::RING_TIMEOUT_MS,
            refusal: None,
            steps: Vec::new(),
        }
    }

    fn note(&mut self, rule: impl Into<String>, matched: bool, why: impl Into<String>) {
        if self.steps.len() < MAX_STEPS {
            self.steps.push(Step { rule: rule.into(), matched, why: why.into() });
        }
    }

    fn refused(mut self, why: impl Into<String>) -> Self {
        self.refusal = Some(why.into());
        self
    }
}

impl RoutingTable {
    /// What a call from outside to `number` reaches by the tenant's numbers. Without a destination the routes of the
    /// configuration decide.
    #[must_use]
    pub fn decide_inbound(&self, number: &str) -> Decision {
        let number = normalized(number);
        let mut decision = Decision::new(number.clone());
        match self.number(&number) {
            Some(found) => {
                let how = if found.prefix { "the longest prefix that fits" } else { "the whole number" };
                decision.note(format!("number {}", found.number), true, how);
                decision.destination = Some(found.destination.clone());
            }
            None => decision.note("numbers", false, format!("none of {} fits", self.number_count())),
        }
        decision
    }

    /// By which trunks a call leaves: the one that is named, or those of the first route that fits and has one that can
    /// be used, or the tenant's default, each with those that back it up.
    #[must_use]
    pub fn decide_outbound(
        &self,
        question: Question<'_>,
        trunk: impl Fn(&str) -> Option<TrunkFacts>,
    ) -> Decision {
        let number = normalized(question.to);
        let mut decision = Decision::new(number.clone());
        if !is_diallable(&number) {
            return decision.refused("the number is empty, too long, or has characters that no number has");
        }
        let from = normalized(question.from);
        if let Some(named) = question.trunk {
            let wanted = [Wanted { trunk_id: named, cost: None }];
            if trunk(named).is_none() {
                decision.note(
                    format!("trunk {named}"),
                    false,
                    "the request names it, and there is none of that name",
                );
                return decision.refused(format!("there is no trunk {named:?}"));
            }
            decision.note(format!("trunk {named}"), true, "the request names it");
            add(&mut decision, &wanted, &number, &from, &trunk);
            return ended(decision, "the trunk cannot be used now, and no backup of it");
        }
        for rule in self.rules() {
            if self.try_rule(rule, &mut decision, &number, &from, question.seed, &trunk) {
                return decision;
            }
        }
        match self.default_trunk() {
            Some(default) => {
                decision.note(format!("default trunk {default}"), true, "no route could carry it");
                let wanted = [Wanted { trunk_id: default, cost: None }];
                add(&mut decision, &wanted, &number, &from, &trunk);
                ended(decision, "the default trunk cannot be used now, and no backup of it")
            }
            None => {
                decision.note("default trunk", false, "the tenant has none");
                ended(decision, "no route fits, and there is no default trunk")
            }
        }
    }

    /// Whether the rule carries the call; if so, `decision` says how.
    fn try_rule(
        &self,
        rule: &Rule,
        decision: &mut Decision,
        number: &str,
        from: &str,
        seed: u64,
        trunk: &impl Fn(&str) -> Option<TrunkFacts>,
    ) -> bool {
        let route = &rule.route;
        let name = format!("route {}", route.name);
        let rewritten = match &rule.rewrite {
            None => rule.pattern.matches(number).then(|| number.to_owned()),
            Some(rewrite) => rule.pattern.rewritten(number, rewrite),
        };
        let Some(rewritten) = rewritten else {
            decision.note(name, false, format!("{number} does not match {}", route.pattern));
            return false;
        };
        if !is_diallable(&rewritten) {
            decision.note(name, false, "it matches, but what it rewrites the number to cannot be dialled");
            return false;
        }
        let from = match &rule.caller_id {
            None => from.to_owned(),
            Some((pattern, rewrite)) => match pattern.rewritten(from, rewrite) {
                Some(written) if is_diallable(&written) => written,
                _ => from.to_owned(),
            },
        };
        decision.note(
            name.clone(),
            true,
            format!("{number} matches {}; {rewritten} is dialled", route.pattern),
        );
        let wanted = in_order(route, seed, trunk);
        add(decision, &wanted, &rewritten, &from, trunk);
        if decision.candidates.is_empty() {
            decision.note(name, false, "none of its trunks can be used; the next route is looked at");
            return false;
        }
        decision.route = Some(route.name.clone());
        decision.advance_on.clone_from(&route.advance_on);
        decision.setup_timeout_ms = route.setup_timeout_ms;
        decision.ring_timeout_ms = route.ring_timeout_ms;
        true
    }
}

/// A trunk that a rule wants.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    trunk_id: &'a str,
    cost: Option<f64>,
}

/// The trunks of a route in the order in which they are tried.
fn in_order<'a>(
    route: &'a OutboundRoute,
    seed: u64,
    trunk: &impl Fn(&str) -> Option<TrunkFacts>,
) -> Vec<Wanted<'a>> {
    let wanted = |one: &'a crate::model::RouteTrunk| Wanted { trunk_id: &one.trunk_id, cost: one.cost };
    match route.strategy {
        RouteStrategy::Ordered => route.trunks.iter().map(wanted).collect(),
        RouteStrategy::LeastCost => {
            let mut all: Vec<_> = route.trunks.iter().map(wanted).collect();
            let cost = |one: &Wanted<'_>| {
                one.cost
                    .or_else(|| trunk(one.trunk_id).map(|facts| facts.cost_per_minute))
                    .unwrap_or(f64::MAX)
            };
            // Stable: among equals the order of the list decides.
            all.sort_by(|one, other| cost(one).total_cmp(&cost(other)));
            all
        }
        RouteStrategy::Weight => {
            let mut left: Vec<_> = route.trunks.iter().collect();
            let mut order = Vec::with_capacity(left.len());
            let mut chance = seed;
            while !left.is_empty() {
                let total: u64 = left.iter().map(|one| u64::from(one.weight)).sum();
                chance = mixed(chance);
                // A weight of zero is only for when the others fail.
                let mut at = if total == 0 { 0 } else { chance % total };
                let picked = left.iter().position(|one| {
                    let weight = u64::from(one.weight);
                    let is_it = total == 0 || at < weight;
                    at = at.saturating_sub(weight);
                    is_it
                });
                order.push(wanted(left.remove(picked.unwrap_or(0))));
            }
            order
        }
    }
}

/// Adds the trunks that can be used, and behind them those that back them up.
fn add(
    decision: &mut Decision,
    wanted: &[Wanted<'_>],
    number: &str,
    from: &str,
    trunk: &impl Fn(&str) -> Option<TrunkFacts>,
) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut backups: Vec<(String, String)> = Vec::new();
    let mut next: Vec<(String, Option<f64>, Option<String>)> =
        wanted.iter().map(|one| (one.trunk_id.to_owned(), one.cost, None)).collect();
    while !next.is_empty() {
        for (trunk_id, cost, backs_up) in next.drain(..) {
            if !seen.insert(trunk_id.clone()) || seen.len() > MAX_CANDIDATES {
                continue;
            }
            let rule = format!("trunk {trunk_id}");
            let Some(facts) = trunk(&trunk_id) else {
                decision.note(rule, false, "there is none of that name");
                continue;
            };
            backups.extend(facts.backup_trunks.iter().map(|backup| (backup.clone(), trunk_id.clone())));
            if let Some(why) = facts.unusable {
                decision.note(rule, false, why);
                continue;
            }
            let place = decision.candidates.len() + 1;
            let why = backs_up.map_or_else(
                || format!("tried as number {place}"),
                |of| format!("tried as number {place}: it backs up {of}"),
            );
            decision.note(rule, true, why);
            decision.candidates.push(Candidate {
                trunk_id,
                number: number.to_owned(),
                from: from.to_owned(),
                cost_per_minute: cost.unwrap_or(facts.cost_per_minute),
            });
        }
        next.extend(backups.drain(..).map(|(backup, of)| (backup, None, Some(of))));
        next.retain(|(trunk_id, ..)| !seen.contains(trunk_id));
    }
}

fn ended(decision: Decision, otherwise: &str) -> Decision {
    if decision.candidates.is_empty() { decision.refused(otherwise) } else { decision }
}

/// The next number of a chain (splitmix64).
const fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Trunks that one call may try.
pub(super) const MAX_CANDIDATES: usize = 16;
/// Steps that an explanation has.
const MAX_STEPS: usize = 500;
