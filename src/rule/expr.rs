//! The language of `when`: a small part of Prometheus', with its meaning of vectors.
//!
//! `disk_free_ratio{path="/var*"} < 15% and disk_free_bytes < 20GiB`,
//! `delta(unit_restarts_total, 10m) > 2`, `sum(kafka_active_controller) != 1`.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

/// Expressions nest no deeper: recursion is bounded.
const DEPTH_MAX: usize = 32;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `15%`, `5GiB`, `10m` (600).
    Number(f64),
    /// `name{label="value"}`.
    Select(Selector),
    /// `delta(selector, 10m)`.
    Window(Window, Selector, f64),
    /// `absent(selector)`: 1 where nothing matches.
    Absent(Selector),
    /// `sum(expr) by (label)`.
    Aggregate(Aggregate, Box<Expr>, Vec<String>),
    /// `left op right`.
    Binary(Op, Box<Expr>, Box<Expr>),
}

/// Which samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Name of the samples.
    pub name: String,
    /// All must hold.
    pub matchers: Vec<Matcher>,
}

/// `label="glob"` or `label!="glob"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// Label.
    pub label: String,
    /// Pattern, `*` for anything.
    pub pattern: String,
    /// `!=`.
    pub negate: bool,
}

/// What to make of a series' recent past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// How much a counter rose; a restart of it counts from zero.
    Delta,
    /// The same, per second.
    Rate,
    /// Highest.
    Max,
    /// Lowest.
    Min,
}

/// What to make of many elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Sum.
    Sum,
    /// Highest.
    Max,
    /// Lowest.
    Min,
    /// How many.
    Count,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Either.
    Or,
    /// Left where right has an element of the same labels.
    And,
    /// Left where right has none.
    Unless,
    /// Comparisons keep the left elements for which they hold.
    Gt,
    /// At least.
    Ge,
    /// Below.
    Lt,
    /// At most.
    Le,
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Plus.
    Add,
    /// Minus.
    Sub,
    /// Times.
    Mul,
    /// Divided by; by zero gives no element.
    Div,
}

/// Where and why an expression cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at character {at} of `{text}`")]
pub struct ExprError {
    /// What is wrong.
    pub message: String,
    /// One-based.
    pub at: usize,
    /// The whole expression.
    pub text: String,
}

impl Expr {
    /// Parses an expression.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        let mut parser = Parser { tokens: tokens(text)?, next: 0, text, depth: 0 };
        let expr = parser.level(0)?;
        if *parser.peek() == Token::End {
            Ok(expr)
        } else {
            Err(parser.error(format!("unexpected {}", parser.peek())))
        }
    }

    /// Every selector in it.
    pub fn selectors(&self) -> Vec<&Selector> {
        match self {
            Self::Number(_) => Vec::new(),
            Self::Select(selector) | Self::Window(_, selector, _) | Self::Absent(selector) => vec![selector],
            Self::Aggregate(_, inner, _) => inner.selectors(),
            Self::Binary(_, left, right) => {
                let mut all = left.selectors();
                all.extend(right.selectors());
                all
            }
        }
    }

    /// Names whose past it looks at, with how far, in seconds.
    pub fn windows(&self) -> Vec<(&str, f64)> {
        match self {
            Self::Number(_) | Self::Select(_) | Self::Absent(_) => Vec::new(),
            Self::Window(_, selector, seconds) => vec![(&selector.name, *seconds)],
            Self::Aggregate(_, inner, _) => inner.windows(),
            Self::Binary(_, left, right) => {
                let mut all = left.windows();
                all.extend(right.windows());
                all
            }
        }
    }

    /// Whether it holds without any reading (`absent(…)`): then missing readings are its very point.
    pub fn reads_absence(&self) -> bool {
        match self {
            Self::Absent(_) => true,
            Self::Number(_) | Self::Select(_) | Self::Window(..) => false,
            Self::Aggregate(_, inner, _) => inner.reads_absence(),
            Self::Binary(_, left, right) => left.reads_absence() || right.reads_absence(),
        }
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExprVisitor;
        impl Visitor<'_> for ExprVisitor {
            type Value = Expr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an expression such as `disk_free_ratio < 15%`")
            }
            // Here and not in a `try_from`: the parser of YAML then knows the line.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expr, E> {
                Expr::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(ExprVisitor)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(f64),
    Word(String),
    Text(String),
    Symbol(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "number {number}"),
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Symbol(symbol) => write!(f, "`{symbol}`"),
            Self::End => f.write_str("end"),
        }
    }
}

/// Longest first.
const SYMBOLS: &[&str] =
    &[">=", "<=", "==", "!=", ">", "<", "=", "(", ")", "{", "}", ",", "+", "-", "*", "/"];

/// Units of numbers.
const UNITS: &[(&str, f64)] = &[
    ("", 1.0),
    ("%", 0.01),
    ("ms", 0.001),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86400.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ExprError> {
    let fail = |at: usize, message: String| ExprError { message, at: at + 1, text: text.to_owned() };
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, first)) = chars.peek().copied() {
        if first.is_whitespace() {
            chars.next();
        } else if first.is_ascii_digit() {
            let number = take(&mut chars, |c| c.is_ascii_digit() || c == '.');
            let unit = take(&mut chars, |c| c.is_ascii_alphabetic() || c == '%');
            let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(fail(at, format!("unknown unit `{unit}`")));
            };
            let number: f64 = number.parse().map_err(|_| fail(at, format!("`{number}` is not a number")))?;
            tokens.push((at, Token::Number(number * factor)));
        } else if first.is_ascii_alphabetic() || first == '_' {
            let word = take(&mut chars, |c| c.is_ascii_alphanumeric() || c == '_');
            tokens.push((at, Token::Word(word)));
        } else if first == '"' || first == '\'' {
            chars.next();
            let inner = take(&mut chars, |c| c != first);
            if chars.next().is_none() {
                return Err(fail(at, "a text without its closing quote".to_owned()));
            }
            tokens.push((at, Token::Text(inner)));
        } else {
            let rest = text.get(at..).unwrap_or_default();
            let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) else {
                return Err(fail(at, format!("unexpected `{first}`")));
            };
            for _ in symbol.chars() {
                chars.next();
            }
            tokens.push((at, Token::Symbol(symbol)));
        }
    }
    tokens.push((text.chars().count(), Token::End));
    Ok(tokens)
}

fn take(chars: &mut Peekable<CharIndices<'_>>, wanted: impl Fn(char) -> bool) -> String {
    let mut out = String::new();
    while let Some((_, c)) = chars.next_if(|(_, c)| wanted(*c)) {
        out.push(c);
    }
    out
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    next: usize,
    text: &'a str,
    depth: usize,
}

/// Operators by level, loosest first.
const LEVELS: &[&[(&str, Op)]] = &[
    &[("or", Op::Or)],
    &[("and", Op::And), ("unless", Op::Unless)],
    &[(">=", Op::Ge), ("<=", Op::Le), ("==", Op::Eq), ("!=", Op::Ne), (">", Op::Gt), ("<", Op::Lt)],
    &[("+", Op::Add), ("-", Op::Sub)],
    &[("*", Op::Mul), ("/", Op::Div)],
];

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn error(&self, message: impl Into<String>) -> ExprError {
        let at = self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(at, _)| *at);
        ExprError { message: message.into(), at: at + 1, text: self.text.to_owned() }
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(s) if *s == symbol)
            || matches!(self.peek(), Token::Word(w) if w == symbol);
        if found {
            self.next += 1;
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ExprError> {
        if self.eat(symbol) {
            Ok(())
        } else {
            Err(self.error(format!("expected `{symbol}`, found {}", self.peek())))
        }
    }

    fn level(&mut self, level: usize) -> Result<Expr, ExprError> {
        let Some(operators) = LEVELS.get(level) else { return self.atom() };
        let mut left = self.level(level + 1)?;
        while let Some((_, op)) = operators.iter().find(|(symbol, _)| self.eat(symbol)) {
            let right = self.level(level + 1)?;
            left = Expr::Binary(*op, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<Expr, ExprError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("nested too deep"));
        }
        let atom = match self.peek().clone() {
            Token::Number(number) => {
                self.next += 1;
                Ok(Expr::Number(number))
            }
            Token::Symbol("-") => {
                self.next += 1;
                let inner = self.atom()?;
                Ok(Expr::Binary(Op::Sub, Box::new(Expr::Number(0.0)), Box::new(inner)))
            }
            Token::Symbol("(") => {
                self.next += 1;
                let inner = self.level(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Word(word) => self.word(&word),
            token @ (Token::Text(_) | Token::Symbol(_) | Token::End) => {
                Err(self.error(format!("expected a sample's name or a number, found {token}")))
            }
        };
        self.depth -= 1;
        atom
    }

    fn word(&mut self, word: &str) -> Result<Expr, ExprError> {
        let call = matches!(self.tokens.get(self.next + 1), Some((_, Token::Symbol("("))));
        if !call {
            return Ok(Expr::Select(self.selector()?));
        }
        let window = match word {
            "delta" => Some(Window::Delta),
            "rate" => Some(Window::Rate),
            "max_over" => Some(Window::Max),
            "min_over" => Some(Window::Min),
            _ => None,
        };
        let aggregate = match word {
            "sum" => Some(Aggregate::Sum),
            "max" => Some(Aggregate::Max),
            "min" => Some(Aggregate::Min),
            "count" => Some(Aggregate::Count),
            _ => None,
        };
        if window.is_none() && aggregate.is_none() && word != "absent" {
            return Err(self.error(format!(
                "unknown function `{word}`; there are delta, rate, max_over, min_over, sum, max, min, count, absent"
            )));
        }
        self.next += 1;
        self.expect("(")?;
        let expr = if let Some(window) = window {
            let selector = self.selector()?;
            self.expect(",")?;
            let Token::Number(seconds) = self.advance() else {
                self.next -= 1;
                return Err(self.error("expected how far back, such as 10m"));
            };
            Expr::Window(window, selector, seconds)
        } else if let Some(aggregate) = aggregate {
            Expr::Aggregate(aggregate, Box::new(self.level(0)?), Vec::new())
        } else {
            Expr::Absent(self.selector()?)
        };
        self.expect(")")?;
        if aggregate.is_some()
            && self.eat("by")
            && let Expr::Aggregate(aggregate, inner, _) = expr
        {
            return Ok(Expr::Aggregate(aggregate, inner, self.labels()?));
        }
        Ok(expr)
    }

    fn labels(&mut self) -> Result<Vec<String>, ExprError> {
        self.expect("(")?;
        let mut labels = Vec::new();
        loop {
            labels.push(self.name("a label")?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(labels)
    }

    fn name(&mut self, what: &str) -> Result<String, ExprError> {
        match self.advance() {
            Token::Word(word) => Ok(word),
            token @ (Token::Number(_) | Token::Text(_) | Token::Symbol(_) | Token::End) => {
                self.next -= 1;
                Err(self.error(format!("expected {what}, found {token}")))
            }
        }
    }

    fn selector(&mut self) -> Result<Selector, ExprError> {
        let name = self.name("a sample's name")?;
        let mut matchers = Vec::new();
        if self.eat("{") {
            while !self.eat("}") {
                if !matchers.is_empty() {
                    self.expect(",")?;
                }
                let label = self.name("a label")?;
                let negate = self.eat("!=");
                if !negate {
                    self.expect("=")?;
                }
                let Token::Text(pattern) = self.advance() else {
                    self.next -= 1;
                    return Err(self.error("expected a label's value in quotes"));
                };
                matchers.push(Matcher { label, pattern, negate });
            }
        }
        Ok(Selector { name, matchers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn fails(text: &str, expected: &Expect) {
        expected.assert_eq(&Expr::parse(text).unwrap_err().to_string());
    }

    #[test]
    fn errors_say_where() {
        fails(
            "disk <",
            &expect!["expected a sample's name or a number, found end at character 7 of `disk <`"],
        );
        fails("disk < 5 kg", &expect!["unexpected `kg` at character 10 of `disk < 5 kg`"]);
        fails("disk < 5kg", &expect!["unknown unit `kg` at character 8 of `disk < 5kg`"]);
        fails(
            "disk{path=/} < 1",
            &expect!["expected a label's value in quotes at character 11 of `disk{path=/} < 1`"],
        );
        fails(
            "disk{path=\"/} < 1",
            &expect![[r#"a text without its closing quote at character 11 of `disk{path="/} < 1`"#]],
        );
        fails("delta(x) > 1", &expect!["expected `,`, found `)` at character 8 of `delta(x) > 1`"]);
        fails(
            "avg(x) > 1",
            &expect![
                "unknown function `avg`; there are delta, rate, max_over, min_over, sum, max, min, count, absent at character 1 of `avg(x) > 1`"
            ],
        );
        fails("a ? b", &expect!["unexpected `?` at character 3 of `a ? b`"]);
        fails(
            &"(".repeat(40),
            &expect!["nested too deep at character 33 of `((((((((((((((((((((((((((((((((((((((((`"],
        );
    }

    #[test]
    fn arithmetic_binds_tighter_than_comparison_than_and_than_or() {
        let parsed = Expr::parse("a or b and c + 1 * 2 > 3").unwrap();
        let Expr::Binary(Op::Or, _, right) = parsed else { panic!("or first") };
        let Expr::Binary(Op::And, _, right) = *right else { panic!("then and") };
        let Expr::Binary(Op::Gt, left, _) = *right else { panic!("then a comparison") };
        assert!(matches!(*left, Expr::Binary(Op::Add, _, _)));
    }

    #[test]
    fn numbers_take_units() {
        for (text, value) in [("15%", 0.15), ("10m", 600.0), ("5GiB", 5_368_709_120.0), ("0.5", 0.5)] {
            assert_eq!(Expr::parse(text).unwrap(), Expr::Number(value));
        }
    }
}
