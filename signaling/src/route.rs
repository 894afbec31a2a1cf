//! Which app a dialled user reaches.

use regex::Regex;

use crate::apps::AppConfig;

/// One line of the routing table.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRule {
    /// Whose calls it takes.
    pub user: UserPattern,
    /// What they reach.
    pub app: AppConfig,
}

/// A test for the user part of the Request-URI.
#[derive(Clone, Debug)]
pub enum UserPattern {
    /// This user, exactly.
    Exact(String),
    /// Every user that the expression matches from its first to its last character.
    Matching(Regex),
}

impl UserPattern {
    /// A pattern from a regular expression, anchored at both ends.
    ///
    /// # Errors
    /// When the expression is not valid or would be too large compiled.
    pub fn matching(expression: &str) -> Result<Self, regex::Error> {
        // Alone first, so that an unbalanced bracket cannot close the group below.
        Regex::new(expression)?;
        let anchored = format!("^(?:{expression})$");
        regex::RegexBuilder::new(&anchored).size_limit(COMPILED_BYTES).build().map(Self::Matching)
    }

    /// Whether `user` matches.
    #[must_use]
    pub fn matches(&self, user: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == user,
            Self::Matching(expression) => expression.is_match(user),
        }
    }
}

impl PartialEq for UserPattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(two)) => one == two,
            (Self::Matching(one), Self::Matching(two)) => one.as_str() == two.as_str(),
            _ => false,
        }
    }
}

/// The app of the first rule that matches.
#[must_use]
pub fn route<'a>(rules: &'a [RouteRule], user: &str) -> Option<&'a AppConfig> {
    rules.iter().find(|rule| rule.user.matches(user)).map(|rule| &rule.app)
}

/// A compiled expression larger than this is a mistake.
const COMPILED_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Vec<RouteRule> {
        let rule = |user, app| RouteRule { user, app };
        let pattern = |expression| UserPattern::matching(expression).expect("a valid expression");
        vec![
            rule(UserPattern::Exact("echo".into()), AppConfig::Echo),
            rule(pattern(r"\+?1\d{3}"), AppConfig::Agent("first".into())),
            rule(pattern("1.*|2"), AppConfig::Agent("second".into())),
        ]
    }

    fn reached(user: &str) -> Option<String> {
        match route(&rules(), user)? {
            AppConfig::Agent(name) => Some(name.clone()),
            other => Some(other.name().into()),
        }
    }

    #[test]
    fn first_matching_rule_decides() {
        assert_eq!(reached("echo").as_deref(), Some("echo"));
        assert_eq!(reached("1234").as_deref(), Some("first"));
        assert_eq!(reached("+1234").as_deref(), Some("first"));
        assert_eq!(reached("12345").as_deref(), Some("second"));
    }

    #[test]
    fn expression_matches_the_whole_user_only() {
        assert_eq!(reached("22"), None);
        assert_eq!(reached("echoes"), None);
        assert_eq!(reached("2").as_deref(), Some("second"));
        assert_eq!(reached("x2"), None);
    }

    #[test]
    fn expression_that_is_only_valid_inside_the_anchor_is_refused() {
        assert!(UserPattern::matching("a)|(b").is_err());
        assert!(UserPattern::matching("(").is_err());
    }

    #[test]
    fn user_with_a_line_end_does_not_match() {
        assert_eq!(reached("2\n"), None);
    }
}
