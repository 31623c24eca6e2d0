//! `+ - * / DIV MOD ||` and unary minus (rule-SQL §8).

use crate::ast::Arithmetic;
use crate::error::{ErrorKind, Fault};
use crate::value::{Text, Value};

/// The longest text that joining may build (rule-SQL §14).
const MAX_TEXT: usize = 4 * 1024 * 1024;

impl Arithmetic {
    /// The result of the operator.
    pub(crate) fn apply(self, left: &Value, right: &Value) -> Result<Value, Fault> {
        match (self, left, right) {
            (Self::Concat, _, _) => join(left, right),
            (Self::Add, Value::Text(_), _) | (Self::Add, _, Value::Text(_)) => join(left, right),
            (Self::IntegerDivide | Self::Modulo, Value::Int(a), Value::Int(b)) => {
                self.whole(*a, *b)
            }
            (Self::IntegerDivide | Self::Modulo, _, _) => Err(self.wrong_operand(
                left,
                right,
                |value| matches!(value, Value::Int(_)),
                "integers",
            )),
            (Self::Divide, _, _) => self.floats(left, right),
            (_, Value::Int(a), Value::Int(b)) => self.integers(*a, *b),
            _ => self.floats(left, right),
        }
    }

    fn integers(self, a: i64, b: i64) -> Result<Value, Fault> {
        let result = match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            _ => a.checked_mul(b),
        };
        result.map(Value::Int).ok_or_else(|| self.overflow())
    }

    fn whole(self, a: i64, b: i64) -> Result<Value, Fault> {
        if b == 0 {
            return Err(self.by_zero());
        }
        if self == Self::Modulo {
            return Ok(Value::Int(a.wrapping_rem(b)));
        }
        a.checked_div(b)
            .map(Value::Int)
            .ok_or_else(|| self.overflow())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "an integer beside a float is taken as the nearest float"
    )]
    fn floats(self, left: &Value, right: &Value) -> Result<Value, Fault> {
        let float = |value: &Value| match value {
            Value::Int(int) => Some(*int as f64),
            Value::Float(float) => Some(*float),
            _ => None,
        };
        let (Some(a), Some(b)) = (float(left), float(right)) else {
            return Err(self.wrong_operand(left, right, |value| float(value).is_some(), "numbers"));
        };
        let result = match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            _ if b == 0.0 => return Err(self.by_zero()),
            _ => a / b,
        };
        Value::finite(result).ok_or_else(|| {
            Fault::new(
                ErrorKind::NotFinite,
                format!("`{}` gives no finite number", self.symbol()),
            )
        })
    }

    fn wrong_operand(
        self,
        left: &Value,
        right: &Value,
        fits: impl Fn(&Value) -> bool,
        wanted: &str,
    ) -> Fault {
        let wrong = if fits(left) { right } else { left };
        let message = format!(
            "`{}` takes {wanted}, not {}",
            self.symbol(),
            wrong.article_name()
        );
        Fault::new(ErrorKind::Type, message).with_value(wrong.clone())
    }

    fn overflow(self) -> Fault {
        Fault::new(
            ErrorKind::Overflow,
            format!("`{}` leaves the 64-bit range", self.symbol()),
        )
    }

    fn by_zero(self) -> Fault {
        Fault::new(ErrorKind::DivZero, format!("`{}` by zero", self.symbol()))
    }
}

/// Unary minus.
pub(crate) fn negate(value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Int(int) => int
            .checked_neg()
            .map(Value::Int)
            .ok_or_else(|| Arithmetic::Subtract.overflow()),
        Value::Float(float) => Ok(Value::Float(-float)),
        _ => {
            let message = format!("`-` takes numbers, not {}", value.article_name());
            Err(Fault::new(ErrorKind::Type, message).with_value(value.clone()))
        }
    }
}

/// The texts of both, joined.
fn join(left: &Value, right: &Value) -> Result<Value, Fault> {
    let (left, right) = (left.str_text()?, right.str_text()?);
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() + right.len() > MAX_TEXT {
        return Err(Fault::new(
            ErrorKind::Limit,
            format!("a text of more than {MAX_TEXT} bytes"),
        ));
    }
    Ok(Text::from([left, right].concat()).into())
}
