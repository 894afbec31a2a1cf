//! Values on the way into the database.

use serde::Serialize;
use sqlx::query::Query;
use sqlx::{Arguments, Database as Driver, Encode, Executor, Postgres, SqlSafeStr, Sqlite, Type};

use super::{Row, StoreError};
use crate::model::{Id, Moment, TenantId};

/// A value for a parameter; what is missing has a kind, too.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `BIGINT`
    Integer(Option<i64>),
    /// `DOUBLE PRECISION`
    Real(Option<f64>),
    /// `BOOLEAN`
    Flag(Option<bool>),
    /// `TEXT`
    Text(Option<String>),
}

/// The values for `$1`, `$2` and so on.
pub type Values = Vec<Value>;

/// What can be a parameter.
pub trait Bind {
    /// As it is bound when it is missing.
    const MISSING: Value;

    /// As it is bound.
    fn value(self) -> Value;
}

macro_rules! bind {
    ($($type:ty => $kind:ident, $value:ident: $expression:expr;)*) => {
        $(impl Bind for $type {
            const MISSING: Value = Value::$kind(None);

            fn value(self) -> Value {
                let $value = self;
                Value::$kind(Some($expression))
            }
        })*
    };
}

bind! {
    i64 => Integer, value: value;
    u64 => Integer, value: i64::try_from(value).unwrap_or(i64::MAX);
    usize => Integer, value: i64::try_from(value).unwrap_or(i64::MAX);
    i32 => Integer, value: value.into();
    u32 => Integer, value: value.into();
    u16 => Integer, value: value.into();
    u8 => Integer, value: value.into();
    Moment => Integer, value: value.micros();
    f64 => Real, value: value;
    bool => Flag, value: value;
    String => Text, value: storable(value);
    &String => Text, value: storable(value.clone());
    &str => Text, value: storable(value.to_owned());
    Id => Text, value: value.to_string();
    &Id => Text, value: value.to_string();
    &TenantId => Text, value: storable(value.0.clone());
    TenantId => Text, value: storable(value.0);
    // A NUL is an escape in JSON, which PostgreSQL's TEXT takes.
    &serde_json::Value => Text, value: value.to_string();
    serde_json::Value => Text, value: value.to_string();
}

impl<T: Bind> Bind for Option<T> {
    const MISSING: Value = T::MISSING;

    fn value(self) -> Value {
        self.map_or(Self::MISSING, T::value)
    }
}

/// Anything that serde knows, as JSON text; read it again with [`Row::json`].
pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    // Only maps with keys that are no text and types that refuse on purpose cannot be written.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

/// `values![name, 5, moment]`: the values for `$1`, `$2`, `$3`.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::store::Bind::value($value)),*]
    };
}
pub(crate) use values;

/// A statement with its values.
pub(super) struct Bound<D: Driver>(Query<'static, D, D::Arguments>);

pub(super) fn sqlite(sql: impl SqlSafeStr, values: Values) -> Result<Bound<Sqlite>, StoreError> {
    bound(sql, values)
}

pub(super) fn postgres(sql: impl SqlSafeStr, values: Values) -> Result<Bound<Postgres>, StoreError> {
    bound(sql, values)
}

fn bound<D: Driver>(sql: impl SqlSafeStr, values: Values) -> Result<Bound<D>, StoreError>
where
    D::Arguments: Arguments<Database = D> + sqlx::IntoArguments<D>,
    Option<i64>: for<'q> Encode<'q, D> + Type<D>,
    Option<f64>: for<'q> Encode<'q, D> + Type<D>,
    Option<bool>: for<'q> Encode<'q, D> + Type<D>,
    Option<String>: for<'q> Encode<'q, D> + Type<D>,
{
    let mut arguments = D::Arguments::default();
    for value in values {
        match value {
            Value::Integer(value) => arguments.add(value),
            Value::Real(value) => arguments.add(value),
            Value::Flag(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(Bound(sqlx::query_with(sql, arguments)))
}

macro_rules! execution {
    ($driver:ty) => {
        impl Bound<$driver> {
            pub(super) async fn rows<'c>(
                self,
                executor: impl Executor<'c, Database = $driver>,
            ) -> Result<Vec<Row>, StoreError> {
                Ok(self.0.fetch_all(executor).await?.into_iter().map(Row::from).collect())
            }

            pub(super) async fn row<'c>(
                self,
                executor: impl Executor<'c, Database = $driver>,
            ) -> Result<Option<Row>, StoreError> {
                Ok(self.0.fetch_optional(executor).await?.map(Row::from))
            }

            pub(super) async fn run<'c>(
                self,
                executor: impl Executor<'c, Database = $driver>,
            ) -> Result<u64, StoreError> {
                Ok(self.0.execute(executor).await?.rows_affected())
            }
        }
    };
}

execution!(Sqlite);
execution!(Postgres);
