//! Rules: which there are, whether each has a meaning, and in which order they can be computed.

use std::sync::Arc;

use super::{
    body::{Level, Lowering, Rules},
    scope::{Budget, Scope, Visible, look_up, within},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::query::{
    ast::datalog::{Measure, RuleDefinition},
    error::{Problem, QueryError},
    limits::{ARITY_MAX, DEFINITIONS_MAX},
    logic::{Aggregate, Body, Definition, Expression, Filter, Positive, Rule, RuleId},
};

/// The rules that a query defines, by name, numbered in the order of their first definitions.
pub(super) fn number(definitions: &[RuleDefinition]) -> Result<Rules, QueryError> {
    let mut rules = Rules::new();
    for (at, definition) in definitions.iter().enumerate() {
        within("definitions of rules", at + 1, DEFINITIONS_MAX, &definition.name.at)?;
        within(
            "columns of a rule",
            definition.head.len(),
            ARITY_MAX,
            &definition.name.at,
        )?;
        let next = RuleId(u32::try_from(rules.len()).expect("rules are few"));
        let found = definition.head.len();
        let (_, expected) = *rules.entry(Arc::clone(&definition.name.text)).or_insert((next, found));
        if found != expected {
            let name = definition.name.text.to_string();
            let problem = Problem::Arity { name, expected, found };
            return Err(QueryError::new(problem, &definition.name.at));
        }
    }
    Ok(rules)
}

/// The rules, with all their definitions.
pub(super) fn lower(
    definitions: &[RuleDefinition],
    rules: &Rules,
    budget: &mut Budget,
) -> Result<Vec<Rule>, QueryError> {
    let mut lowered: Vec<Rule> = Vec::new();
    for syntax in definitions {
        let definition = lower_definition(syntax, rules, budget)?;
        let (rule, arity) = rules[&syntax.name.text];
        match lowered.get_mut(index(rule)) {
            None => lowered.push(Rule {
                name: Arc::clone(&syntax.name.text),
                arity,
                definitions: vec![definition],
                recursive: false,
            }),
            Some(rule) => {
                let gathers = |one: &Definition| one.head.iter().any(|head| head.is_aggregate());
                if gathers(&definition) || rule.definitions.iter().any(gathers) {
                    let what = "the rule with an aggregate";
                    let name = syntax.name.text.to_string();
                    let error = QueryError::new(Problem::Twice { what, name }, &syntax.name.at);
                    return Err(error.help("gather what it is of in a rule without aggregates first"));
                }
                rule.definitions.push(definition);
            }
        }
    }
    Ok(lowered)
}

fn lower_definition(syntax: &RuleDefinition, rules: &Rules, budget: &mut Budget) -> Result<Definition, QueryError> {
    let mut scope = Scope::default();
    let mut lowering = Lowering {
        scope: &mut scope,
        budget,
        rules,
    };
    let level = Level {
        depth: 1,
        inside: Some("in a rule"),
    };
    let (body, visible) = lowering.body(&syntax.clauses, &Visible::new(), level)?;
    let mut head = Vec::new();
    for measure in &syntax.head {
        head.push(expression(measure, &visible, "the head of the rule")?);
        if matches!(
            measure,
            Measure::Aggregate {
                function: Aggregate::Collect,
                ..
            }
        ) {
            let (what, place) = ("`collect`", "in the head of a rule: a list is no value");
            return Err(QueryError::new(Problem::Misplaced { what, place }, measure.at()));
        }
    }
    scope.check_types()?;
    Ok(Definition {
        head,
        body,
        variables: scope.names,
    })
}

pub(super) fn expression(measure: &Measure, visible: &Visible, user: &'static str) -> Result<Expression, QueryError> {
    Ok(match measure {
        Measure::Var(var) => Expression::Var(look_up(var, visible, user)?),
        Measure::Aggregate { function, var } => Expression::Aggregate(*function, look_up(var, visible, user)?),
        Measure::CountAll(_) => Expression::CountAll,
    })
}

/// What a rule calls, and through what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    rule: RuleId,
    /// `None` for a plain call.
    through: Option<&'static str>,
}

/// The order to compute the rules in; marks the recursive ones.
///
/// `used` are the bodies that ask for rules from outside. A rule that none of them needs is an error, and so is one
/// that needs its own complement or an aggregate of itself: no least set of tuples would satisfy it.
pub(super) fn stratify(
    rules: &mut [Rule],
    used: &[&Body],
    definitions: &[RuleDefinition],
) -> Result<Vec<Vec<RuleId>>, QueryError> {
    let calls: Vec<BTreeSet<Call>> = rules.iter().map(calls_of).collect();
    let reach: Vec<BTreeSet<RuleId>> = (0..rules.len()).map(|from| reachable(&calls, from)).collect();
    let mut asked = BTreeSet::new();
    for body in used {
        calls_in(body, None, &mut asked);
    }
    let name_at = |rule: RuleId| {
        let definition = definitions.iter().find(|one| one.name.text == rules[index(rule)].name);
        definition
            .map(|definition| definition.name.at.clone())
            .unwrap_or_default()
    };
    for (at, own) in calls.iter().enumerate() {
        let rule = id(at);
        let name = rules[at].name.to_string();
        let is_asked = asked
            .iter()
            .any(|call| call.rule == rule || reach[index(call.rule)].contains(&rule));
        if !is_asked {
            return Err(QueryError::new(Problem::UnusedRule(name), &name_at(rule)));
        }
        let mut loops = own
            .iter()
            .filter(|call| call.rule == rule || reach[index(call.rule)].contains(&rule));
        if let Some(through) = loops.find_map(|call| call.through) {
            let error = QueryError::new(Problem::NotStratified { name, through }, &name_at(rule));
            return Err(
                error.help("a rule may build on itself, but neither on what it leaves out nor on its own totals")
            );
        }
    }
    for (at, rule) in rules.iter_mut().enumerate() {
        rule.recursive = reach[at].contains(&id(at));
    }
    Ok(strata(&reach))
}

/// Groups of rules that need each other, each after those it needs.
fn strata(reach: &[BTreeSet<RuleId>]) -> Vec<Vec<RuleId>> {
    let mut groups: BTreeMap<RuleId, Vec<RuleId>> = BTreeMap::new();
    for (at, own) in reach.iter().enumerate() {
        let rule = id(at);
        let mates = own.iter().filter(|other| reach[index(**other)].contains(&rule));
        let first = mates.copied().chain([rule]).min().unwrap_or(rule);
        groups.entry(first).or_default().push(rule);
    }
    let mut strata: Vec<Vec<RuleId>> = groups.into_values().collect();
    // What a rule reaches, it reaches together with all that lies behind: fewer things reached come first.
    strata.sort_by_key(|group| reach[index(group[0])].len() + usize::from(!reach[index(group[0])].contains(&group[0])));
    strata
}

fn reachable(calls: &[BTreeSet<Call>], from: usize) -> BTreeSet<RuleId> {
    let mut found = BTreeSet::new();
    let mut next = vec![id(from)];
    while let Some(rule) = next.pop() {
        for call in &calls[index(rule)] {
            if found.insert(call.rule) {
                next.push(call.rule);
            }
        }
    }
    found
}

fn calls_of(rule: &Rule) -> BTreeSet<Call> {
    let mut calls = BTreeSet::new();
    for definition in &rule.definitions {
        let aggregates = definition.head.iter().any(|head| head.is_aggregate());
        calls_in(&definition.body, aggregates.then_some("an aggregate"), &mut calls);
    }
    calls
}

fn calls_in(body: &Body, through: Option<&'static str>, calls: &mut BTreeSet<Call>) {
    for positive in &body.positives {
        match positive {
            Positive::Triple(_) => {}
            Positive::Call { rule, .. } => {
                let rule = *rule;
                calls.insert(Call { rule, through });
            }
            Positive::Or(or) => or.branches.iter().for_each(|branch| calls_in(branch, through, calls)),
        }
    }
    for optional in &body.optionals {
        calls_in(optional, through, calls);
    }
    for filter in &body.filters {
        if let Filter::Not(inner) = filter {
            calls_in(inner, Some("`not`"), calls);
        }
    }
}

fn id(at: usize) -> RuleId {
    RuleId(u32::try_from(at).expect("rules are few"))
}

fn index(rule: RuleId) -> usize {
    usize::try_from(rule.0).expect("rules are few")
}
