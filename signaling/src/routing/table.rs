//! The numbers and routes of one tenant, ready for use.

use std::collections::HashMap;

use super::pattern::{Pattern, PatternError, Rewrite};
use crate::model::{Number, OutboundRoute};

/// The numbers and routes of one tenant. Made anew when one of them changes.
#[derive(Debug, Default)]
pub struct RoutingTable {
    numbers: HashMap<String, Number>,
    prefixes: HashMap<String, Number>,
    longest_prefix: usize,
    rules: Vec<Rule>,
    default_trunk: Option<String>,
}

/// A route with its expressions compiled.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) route: OutboundRoute,
    pub(super) pattern: Pattern,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) caller_id: Option<(Pattern, Rewrite)>,
}

/// Which field of a route is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {error}")]
pub struct RuleError {
    /// Such as `caller_id.pattern`.
    pub field: &'static str,
    /// What is wrong with it.
    pub error: PatternError,
}

impl Rule {
    fn new(route: OutboundRoute) -> Result<Self, RuleError> {
        let of = |field| move |error| RuleError { field, error };
        let pattern = Pattern::new(&route.pattern).map_err(of("pattern"))?;
        let rewrite = route.rewrite.as_deref().map(|template| pattern.rewrite(template)).transpose();
        let rewrite = rewrite.map_err(of("rewrite"))?;
        let caller_id = match &route.caller_id {
            None => None,
            Some(rule) => {
                let expression = rule.pattern.as_deref().unwrap_or("(?s).*");
                let pattern = Pattern::new(expression).map_err(of("caller_id.pattern"))?;
                let rewrite = pattern.rewrite(&rule.rewrite).map_err(of("caller_id.rewrite"))?;
                Some((pattern, rewrite))
            }
        };
        Ok(Self { route, pattern, rewrite, caller_id })
    }
}

/// Whether a route can be used, before it is kept.
///
/// # Errors
/// [`RuleError`], which names the field.
pub fn check(route: &OutboundRoute) -> Result<(), RuleError> {
    Rule::new(route.clone()).map(drop)
}

impl RoutingTable {
    /// Takes what is in use. Routes that cannot be used are left out and told, by name; [`check`] has kept them from
    /// being stored.
    #[must_use]
    pub fn new(
        numbers: Vec<Number>,
        routes: Vec<OutboundRoute>,
        default_trunk: Option<String>,
    ) -> (Self, Vec<(String, RuleError)>) {
        let mut table = Self { default_trunk, ..Self::default() };
        for number in numbers.into_iter().filter(|number| number.active) {
            let key = super::normalized(&number.number);
            if number.prefix {
                table.longest_prefix = table.longest_prefix.max(key.len());
                table.prefixes.insert(key, number);
            } else {
                table.numbers.insert(key, number);
            }
        }
        let mut errors = Vec::new();
        for route in routes.into_iter().filter(|route| route.active) {
            let name = route.name.clone();
            match Rule::new(route) {
                Ok(rule) => table.rules.push(rule),
                Err(error) => errors.push((name, error)),
            }
        }
        table.rules.sort_by(|one, other| {
            (one.route.priority, &one.route.name).cmp(&(other.route.priority, &other.route.name))
        });
        (table, errors)
    }

    /// The number that was dialled, or else the longest prefix of it.
    #[must_use]
    pub fn number(&self, dialled: &str) -> Option<&Number> {
        if let Some(found) = self.numbers.get(dialled) {
            return Some(found);
        }
        let longest = self.longest_prefix.min(dialled.len());
        (0..=longest).rev().find_map(|length| self.prefixes.get(dialled.get(..length)?))
    }

    pub(super) fn number_count(&self) -> usize {
        self.numbers.len() + self.prefixes.len()
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The trunk for what no route carries.
    #[must_use]
    pub fn default_trunk(&self) -> Option<&str> {
        self.default_trunk.as_deref()
    }
}
