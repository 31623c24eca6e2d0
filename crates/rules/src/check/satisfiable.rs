//! Whether any value at all can satisfy several comparisons with constants (rule-SQL §5.1).
//!
//! Constants cut the values into few cells: themselves, what lies between two of them, what lies outside. One value of
//! each cell is tried with the comparisons themselves, so nothing here can differ from what a rule does. Where the cells
//! are not certain, the answer is that there may be such a value.

use crate::ast::{Expr, ExprKind, IsTest, Step};
use crate::comparison::Comparison;
use crate::eval::constant;
use crate::value::Value;

/// Up to here the middle of two different integers is a float that differs from both.
const EXACT: f64 = 4_503_599_627_370_496.0;

/// With more constants than this nobody looks: each is tried with each.
pub(super) const MAX_CONSTANTS: usize = 100;

/// A comparison of one operand with constants.
#[derive(Debug)]
pub(super) struct Constraint<'e> {
    /// What is compared.
    pub(super) operand: &'e Expr,
    pub(super) test: Test,
}

/// What an operand is asked.
#[derive(Debug)]
pub(super) enum Test {
    Compare(Comparison, Value),
    In {
        list: Vec<Value>,
        negated: bool,
    },
    Between {
        low: Value,
        high: Value,
        negated: bool,
    },
    Is {
        test: IsTest,
        negated: bool,
    },
}

/// The comparison that `expr` is, if its other side is constant and scalar.
pub(super) fn constraint(expr: &Expr) -> Option<Constraint<'_>> {
    let (operand, test) = match &expr.kind {
        ExprKind::Compare {
            operator,
            left,
            right,
        } => match (scalar(left), scalar(right)) {
            (None, Some(value)) => (left, Test::Compare(*operator, value)),
            (Some(value), None) => (right, Test::Compare(operator.turned(), value)),
            _ => return None,
        },
        ExprKind::InList {
            value,
            list,
            negated,
        } => {
            let list = list.iter().map(scalar).collect::<Option<_>>()?;
            let negated = *negated;
            (value, Test::In { list, negated })
        }
        ExprKind::Between {
            value,
            low,
            high,
            negated,
        } => {
            let (low, high, negated) = (scalar(low)?, scalar(high)?, *negated);
            let test = Test::Between { low, high, negated };
            (value, test)
        }
        ExprKind::Is {
            value,
            test,
            negated,
        } => {
            let (test, negated) = (*test, *negated);
            (value, Test::Is { test, negated })
        }
        _ => return None,
    };
    Some(Constraint { operand, test })
}

/// A constant that is a number, a string or a boolean.
pub(super) fn scalar(expr: &Expr) -> Option<Value> {
    constant(expr)?
        .ok()
        .filter(|value| is_number(value) || matches!(value, Value::Text(_) | Value::Bool(_)))
}

/// A text that is equal for names and paths that give the same value within one evaluation.
pub(super) fn key_of(operand: &Expr) -> Option<String> {
    match &operand.kind {
        ExprKind::Name { name, .. } => Some(name.to_string()),
        ExprKind::Path { root, steps } => {
            let mut key = key_of(root)?;
            for step in steps {
                match step {
                    Step::Key(step) => {
                        key.push('\0');
                        key.push_str(step);
                    }
                    Step::Index(index) => match index.literal()? {
                        Value::Int(index) => key.push_str(&format!("\0[{index}]")),
                        _ => return None,
                    },
                    Step::Slice { .. } => return None,
                }
            }
            Some(key)
        }
        _ => None,
    }
}

/// Whether some value may satisfy all the tests. `domain` is what the operand can be, where that is known.
pub(super) fn satisfiable(tests: &[&Test], domain: Option<&[Value]>) -> bool {
    let constants: usize = tests.iter().map(|test| test.constants().len()).sum();
    if constants > MAX_CONSTANTS {
        return true;
    }
    let holds = |value: &Value| tests.iter().all(|test| test.holds(value));
    match domain {
        Some(domain) => domain.iter().chain(&[Value::Undefined]).any(holds),
        None => candidates(tests).is_none_or(|values| values.iter().any(holds)),
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        match self {
            Self::Compare(operator, constant) => operator.holds(value, constant),
            Self::In {
                list,
                negated: false,
            } => list.iter().any(|item| Equal.holds(value, item)),
            Self::In {
                list,
                negated: true,
            } => list.iter().all(|item| NotEqual.holds(value, item)),
            Self::Between {
                low,
                high,
                negated: false,
            } => GreaterOrEqual.holds(value, low) && LessOrEqual.holds(value, high),
            Self::Between {
                low,
                high,
                negated: true,
            } => Less.holds(value, low) || Greater.holds(value, high),
            Self::Is { test, negated } => test.holds(value) != *negated,
        }
    }

    fn constants(&self) -> Vec<&Value> {
        match self {
            Self::Compare(_, constant) => vec![constant],
            Self::In { list, .. } => list.iter().collect(),
            Self::Between { low, high, .. } => vec![low, high],
            Self::Is { .. } => Vec::new(),
        }
    }

    /// The only constants that it holds for, if it is an equality.
    fn equals(&self) -> Option<Vec<&Value>> {
        match self {
            Self::Compare(Comparison::Equal, _) | Self::In { negated: false, .. } => {
                Some(self.constants())
            }
            _ => None,
        }
    }
}

/// A value of each cell; `None` where that is not certain to be all.
fn candidates(tests: &[&Test]) -> Option<Vec<Value>> {
    // An equality with texts and booleans leaves few values; one with a number leaves all the texts of that number.
    let few = tests
        .iter()
        .filter_map(|test| test.equals())
        .find(|constants| !constants.iter().any(|value| is_number(value)));
    if let Some(constants) = few {
        return Some(constants.into_iter().flat_map(equal_values).collect());
    }
    let constants: Vec<&Value> = tests.iter().flat_map(|test| test.constants()).collect();
    let numbers: Vec<f64> = constants.iter().filter_map(|value| number(value)).collect();
    if numbers.iter().any(|number| number.abs() > EXACT) {
        return None;
    }
    let has_numbers = constants.iter().any(|value| is_number(value));
    let has_others = constants.iter().any(|value| !is_number(value));
    if has_numbers && has_others {
        return None;
    }
    let mut values = vec![
        Value::Undefined,
        Value::Null,
        Value::Bool(true),
        Value::Bool(false),
        Value::from(""),
        Value::from("\u{10ffff}"),
        Value::from(Vec::new()),
    ];
    values.extend(constants.iter().map(|value| (*value).clone()));
    values.extend(number_cells(numbers));
    for text in constants.iter().filter_map(|value| text(value)) {
        values.push(text.as_str().into());
        // The least text that is greater.
        values.push(format!("{text}\0").as_str().into());
    }
    Some(values)
}

/// What equals a text or a boolean: itself, the number that it is the text of, the boolean that it names.
fn equal_values(constant: &Value) -> Vec<Value> {
    let mut values = vec![constant.clone()];
    if let Some(text) = text(constant) {
        values.extend(crate::text::number(text.as_bytes()));
        match text.as_str() {
            "true" => values.push(Value::Bool(true)),
            "false" => values.push(Value::Bool(false)),
            _ => {}
        }
        values.push(text.as_str().into());
    }
    values
}

/// Each number, one between every two, one below and one above all.
fn number_cells(mut numbers: Vec<f64>) -> Vec<Value> {
    numbers.sort_by(f64::total_cmp);
    let middles = numbers.iter().zip(numbers.iter().skip(1));
    let mut cells: Vec<f64> = middles.map(|(a, b)| a + (b - a) / 2.0).collect();
    cells.push(numbers.first().map_or(0.0, |least| least - 1.0));
    cells.push(numbers.last().map_or(0.0, |greatest| greatest + 1.0));
    cells.extend(numbers);
    cells.into_iter().filter_map(Value::finite).collect()
}

const fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_))
}

/// The number that a constant is, or is the text of.
fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a number so large is not looked at further"
        )]
        Value::Int(int) => Some(*int as f64),
        Value::Float(float) => Some(*float),
        Value::Text(text) => number(&text.number()?),
        _ => None,
    }
}

/// The text that a constant is compared with texts as.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => text.as_str().map(str::to_owned),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};

    const OPERATORS: [Comparison; 6] =
        [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual];

    fn can_hold(tests: &[(Comparison, Value)]) -> bool {
        let tests: Vec<Test> = tests
            .iter()
            .map(|(operator, value)| Test::Compare(*operator, value.clone()))
            .collect();
        satisfiable(&tests.iter().collect::<Vec<_>>(), None)
    }

    #[test]
    fn what_excludes_each_other_never_holds() {
        assert!(!can_hold(&[
            (Greater, Value::Int(30)),
            (Less, Value::Int(20))
        ]));
        assert!(!can_hold(&[(Equal, Value::Int(1)), (Equal, Value::Int(2))]));
        assert!(!can_hold(&[
            (Greater, Value::Int(30)),
            (Less, Value::Int(30))
        ]));
        assert!(!can_hold(&[(Equal, "a".into()), (Equal, "b".into())]));
        assert!(!can_hold(&[(Equal, "a".into()), (Greater, Value::Int(3))]));
        assert!(!can_hold(&[(Less, "".into())]));
    }

    #[test]
    fn what_some_value_satisfies_may_hold() {
        assert!(can_hold(&[
            (Greater, Value::Int(20)),
            (Less, Value::Int(30))
        ]));
        assert!(can_hold(&[
            (GreaterOrEqual, Value::Int(30)),
            (LessOrEqual, Value::Int(30))
        ]));
        // The number 1 equals both texts.
        assert!(can_hold(&[(Equal, "1".into()), (Equal, "1.0".into())]));
        assert!(can_hold(&[(Equal, true.into()), (Equal, "true".into())]));
        // The text `10`.
        assert!(can_hold(&[(Greater, Value::Int(5)), (Less, "2".into())]));
        assert!(can_hold(&[
            (NotEqual, Value::Int(1)),
            (NotEqual, "a".into())
        ]));
    }

    /// Whatever satisfies the tests among many values is never said to be impossible.
    #[test]
    fn nothing_that_a_value_satisfies_is_called_impossible() {
        let constants: Vec<Value> = vec![
            Value::Int(1),
            Value::Int(2),
            Value::Float(1.5),
            Value::Int(i64::MAX),
            "".into(),
            "a".into(),
            "b".into(),
            "1".into(),
            "1.0".into(),
            "10".into(),
            "true".into(),
            true.into(),
            false.into(),
        ];
        let more = ["01", "1e1", "ab", "-3", "2.0", "\0", "a\0", "~"];
        let mut values = constants.clone();
        values.extend(more.map(Value::from));
        values.extend([
            Value::Int(0),
            Value::Int(3),
            Value::Float(1.25),
            Value::Int(i64::MAX - 1),
            Value::Null,
            Value::Undefined,
        ]);
        for (a, first) in constants.iter().flat_map(|c| OPERATORS.map(|o| (c, o))) {
            for (b, second) in constants.iter().flat_map(|c| OPERATORS.map(|o| (c, o))) {
                let witness = values
                    .iter()
                    .find(|value| first.holds(value, a) && second.holds(value, b));
                let possible = can_hold(&[(first, a.clone()), (second, b.clone())]);
                assert!(
                    possible || witness.is_none(),
                    "{first:?} {a:?} and {second:?} {b:?} hold for {witness:?}"
                );
            }
        }
    }
}
