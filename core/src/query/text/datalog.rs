//! The Datalog form: `find ?title, count(?c) where ?p post/title ?title; ?c comment/post ?p order by count(?c) desc`.

use super::{
    lexer::Token,
    parser::{Parser, TAIL},
};
use crate::{
    id::{Predicate, is_name},
    query::{
        ast::{
            Name,
            datalog::{
                Clause, ClauseKind, Datalog, FindItem, FindOrder, FindOrderBy, Measure, PredicatePattern,
                RuleDefinition, Term,
            },
        },
        error::{Problem, QueryError},
        logic::{Aggregate, Comparison},
        place::Place,
    },
};

const AGGREGATES: [(&str, Aggregate); 6] = [
    ("count", Aggregate::Count),
    ("sum", Aggregate::Sum),
    ("avg", Aggregate::Avg),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("collect", Aggregate::Collect),
];

const WHAT_FOLLOWS: &str = "`;` and another clause, `order by`, `limit`, `after` or the end of the query";

impl Parser {
    /// `rule under(?a, ?b): …`
    pub(super) fn rule(&mut self) -> Result<RuleDefinition, QueryError> {
        self.need_word("rule")?;
        let name = self.name("the name of a rule")?;
        self.need_sign("(")?;
        let head = self.list(Self::measure)?;
        self.need_sign(")")?;
        self.need_sign(":")?;
        let clauses = self.clauses()?;
        Ok(RuleDefinition { name, head, clauses })
    }

    pub(super) fn datalog(&mut self, rules: Vec<RuleDefinition>) -> Result<Datalog, QueryError> {
        let start = self.here();
        self.need_word("find")?;
        let find = self.list(Self::find_item)?;
        if !self.is_word("where") {
            return Err(self.unexpected_among("`,` and another column, or `where`", &["where"]));
        }
        self.advance();
        let clauses = self.clauses()?;
        let tail = self.tail(Self::find_order)?;
        if *self.peek() != Token::End {
            let error = self.unexpected_among(WHAT_FOLLOWS, &["or", "order", "limit", "after"]);
            let joins = self.is_word("and") || self.is_sign(",") || self.is_sign(".");
            return Err(if joins {
                error.help("clauses stand apart by `;`, and all of them must hold")
            } else {
                error
            });
        }
        Ok(Datalog {
            rules,
            find,
            clauses,
            order: tail.order,
            limit: tail.limit,
            after: tail.after,
            at: self.since(&start),
        })
    }

    fn find_item(&mut self) -> Result<FindItem, QueryError> {
        let measure = self.measure()?;
        let name = if self.take_word("as") {
            Some(self.label()?)
        } else {
            None
        };
        Ok(FindItem { measure, name })
    }

    fn find_order(&mut self) -> Result<FindOrder, QueryError> {
        let is_name = matches!(self.peek(), Token::Word(_) | Token::Quoted(_));
        let by = if is_name && *self.peek_at(1) != Token::Sign("(") {
            FindOrderBy::Column(self.label()?)
        } else {
            FindOrderBy::Measure(self.measure()?)
        };
        let descending = self.direction();
        Ok(FindOrder { by, descending })
    }

    /// `?x`, `sum(?x)`, `count(distinct ?x)` or `count(*)`
    fn measure(&mut self) -> Result<Measure, QueryError> {
        let at = self.here();
        if let Token::Variable(_) = self.peek() {
            return Ok(Measure::Var(self.variable()?));
        }
        let names = AGGREGATES.map(|(name, _)| name);
        let known = match self.peek() {
            Token::Word(word) => AGGREGATES.iter().find(|(name, _)| *name == &**word),
            _ => None,
        };
        let Some((_, function)) = known else {
            let expected = format!("a variable such as ?x, or an aggregate ({})", names.join(", "));
            return Err(self.unexpected_among(&expected, &names));
        };
        self.advance();
        self.need_sign("(")?;
        if *function == Aggregate::Count && self.take_sign("*") {
            self.need_sign(")")?;
            return Ok(Measure::CountAll(self.since(&at)));
        }
        let distinct = *function == Aggregate::Count && self.take_word("distinct");
        let var = self.variable()?;
        self.need_sign(")")?;
        let function = if distinct { Aggregate::CountDistinct } else { *function };
        Ok(Measure::Aggregate { function, var })
    }

    fn variable(&mut self) -> Result<Name, QueryError> {
        let at = self.here();
        match self.peek().clone() {
            Token::Variable(text) => {
                self.advance();
                Ok(Name { text, at })
            }
            Token::Word(word) if is_name(&word) => {
                let error = self.unexpected("a variable");
                Err(error.help(format!("a variable begins with a question mark: ?{word}")))
            }
            _ => Err(self.unexpected("a variable")),
        }
    }

    /// `…; …; …`
    fn clauses(&mut self) -> Result<Vec<Clause>, QueryError> {
        let mut clauses = Vec::new();
        self.alternatives(&mut clauses)?;
        while self.take_sign(";") {
            if !self.is_clause() {
                break;
            }
            self.alternatives(&mut clauses)?;
        }
        Ok(clauses)
    }

    fn is_clause(&self) -> bool {
        match self.peek() {
            Token::Word(word) if matches!(&**word, "not" | "optional" | "_") => true,
            Token::Word(_) | Token::Quoted(_) => *self.peek_at(1) == Token::Sign("(") || self.is_constant(),
            Token::Sign(sign) => *sign == "(",
            Token::Variable(_) | Token::Constant(_) => true,
            Token::End => false,
        }
    }

    /// One clause, or several between `or`.
    fn alternatives(&mut self, out: &mut Vec<Clause>) -> Result<(), QueryError> {
        let start = self.here();
        let first = self.unit()?;
        if !self.is_word("or") {
            out.extend(first);
            return Ok(());
        }
        let mut branches = vec![first];
        while self.take_word("or") {
            branches.push(self.unit()?);
        }
        out.push(Clause {
            kind: ClauseKind::Or(branches),
            at: self.since(&start),
        });
        Ok(())
    }

    fn unit(&mut self) -> Result<Vec<Clause>, QueryError> {
        let start = self.here();
        if self.take_sign("(") {
            let clauses = self.nested(Self::clauses)?;
            self.need_sign(")")?;
            return Ok(clauses);
        }
        let kinds = if self.take_word("not") {
            vec![ClauseKind::Not(self.nested(Self::unit)?)]
        } else if self.take_word("optional") {
            vec![ClauseKind::Optional(self.nested(Self::unit)?)]
        } else {
            self.simple()?
        };
        let at = self.since(&start);
        let clauses = kinds.into_iter().map(|kind| Clause { kind, at: at.clone() });
        Ok(clauses.collect())
    }

    fn simple(&mut self) -> Result<Vec<ClauseKind>, QueryError> {
        let is_name = matches!(self.peek(), Token::Word(_) | Token::Quoted(_));
        if is_name && *self.peek_at(1) == Token::Sign("(") {
            return Ok(vec![self.call()?]);
        }
        let at = self.here();
        let expected = "a clause: a pattern such as ?p post/title ?t, a comparison, a rule, `not` or `optional`";
        let Some(left) = self.optional_term()? else {
            return Err(self.unexpected_among(expected, &["not", "optional"]));
        };
        match self.test_of(&left, &at)? {
            Some(test) => Ok(vec![test]),
            None => self.triple(left, &at),
        }
    }

    /// What stands behind a term that is tested; nothing is taken if it is not.
    fn test_of(&mut self, left: &Term, at: &Place) -> Result<Option<ClauseKind>, QueryError> {
        if let Some(comparison) = self.comparison() {
            return self.comparison_of(left.clone(), comparison, at).map(Some);
        }
        let Term::Var(var) = left else { return Ok(None) };
        if *self.peek_at(1) == Token::Sign("/") {
            return Ok(None);
        }
        let var = var.clone();
        if self.take_word("in") {
            let values = self.literals()?;
            return Ok(Some(ClauseKind::In { var, values }));
        }
        if self.take_word("is") {
            let kind = self.kind()?;
            return Ok(Some(ClauseKind::Kind { var, kind }));
        }
        if let Some(test) = self.text_test() {
            let text = self.text()?;
            return Ok(Some(ClauseKind::Text { var, test, text }));
        }
        Ok(None)
    }

    fn call(&mut self) -> Result<ClauseKind, QueryError> {
        let name = self.name_not_keyword("the name of a rule")?;
        self.need_sign("(")?;
        let arguments = self.list(Self::term)?;
        self.need_sign(")")?;
        Ok(ClauseKind::Call { name, arguments })
    }

    fn comparison_of(&mut self, left: Term, comparison: Comparison, at: &Place) -> Result<ClauseKind, QueryError> {
        let right = self.term()?;
        if left == Term::Any || right == Term::Any {
            let message = "`_` stands for anything, so comparing it says nothing".to_owned();
            return Err(QueryError::new(Problem::Senseless(message), &self.since(at)));
        }
        Ok(ClauseKind::Compare {
            left,
            comparison,
            right,
        })
    }

    /// A pattern. `?p post/rank > 3` is one whose object has no name, and a test of it.
    fn triple(&mut self, subject: Term, at: &Place) -> Result<Vec<ClauseKind>, QueryError> {
        let predicate = self.predicate()?;
        let mut object = self.optional_term()?;
        let mut test = None;
        if object.is_none() {
            let nameless = Term::Var(self.unused_variable());
            test = self.test_of(&nameless, at)?;
            object = test.is_some().then_some(nameless);
        }
        let object = object.unwrap_or(Term::Any);
        let triple = ClauseKind::Triple {
            subject,
            predicate,
            object,
        };
        Ok(std::iter::once(triple).chain(test).collect())
    }

    fn predicate(&mut self) -> Result<PredicatePattern, QueryError> {
        let expected = "a predicate such as post/title, a comparison, `in`, `starts`, `contains` or `is`";
        match self.peek().clone() {
            Token::Variable(_) => return Ok(PredicatePattern::Var(self.variable()?)),
            Token::Word(word) if &*word == "_" && *self.peek_at(1) != Token::Sign("/") => {
                self.advance();
                return Ok(PredicatePattern::Any);
            }
            Token::Sign("*") => {
                self.advance();
                self.need_sign("/")?;
                return Ok(PredicatePattern::OfField(self.name("a field")?.text));
            }
            Token::Word(word) if *self.peek_at(1) != Token::Sign("/") => {
                let words = ["in", "starts", "contains", "is", TAIL[0], TAIL[1], TAIL[2]];
                let error = self.unexpected(expected).near(&word, &words);
                let bare = error.help.is_none() && is_name(&word);
                let help = format!("a predicate is type/field, for example post/{word}, or */{word} for any type");
                return Err(if bare { error.help(help) } else { error });
            }
            Token::Word(_) | Token::Quoted(_) => {}
            _ => return Err(self.unexpected(expected)),
        }
        let at = self.here();
        let entity_type = self.name("a type")?;
        self.need_sign("/")?;
        if self.take_sign("*") {
            return Ok(PredicatePattern::OfType(entity_type.text));
        }
        let field = self.name("a field, or `*`")?;
        let text = format!("{}/{}", entity_type.text, field.text);
        Predicate::new(&text).map(PredicatePattern::Is).map_err(|_| {
            let problem = Problem::Malformed {
                text,
                what: "a predicate",
                rule: "it is type/field",
            };
            QueryError::new(problem, &self.since(&at))
        })
    }

    fn term(&mut self) -> Result<Term, QueryError> {
        match self.optional_term()? {
            Some(term) => Ok(term),
            None => match self.literal() {
                Ok(literal) => Ok(Term::Constant(literal)),
                Err(error) => {
                    let Problem::Unexpected { found, .. } = &error.problem else {
                        return Err(error);
                    };
                    let expected = "a variable, a constant or `_`";
                    let named = QueryError::expected(expected, found.clone(), &error.at);
                    Err(error.help.map_or(named.clone(), |help| named.help(help)))
                }
            },
        }
    }

    fn optional_term(&mut self) -> Result<Option<Term>, QueryError> {
        Ok(match self.peek() {
            Token::Variable(_) => Some(Term::Var(self.variable()?)),
            Token::Word(word) if &**word == "_" && *self.peek_at(1) != Token::Sign("/") => {
                self.advance();
                Some(Term::Any)
            }
            _ if self.is_constant() => Some(Term::Constant(self.literal()?)),
            _ => None,
        })
    }
}
