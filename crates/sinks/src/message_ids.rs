//! An id for each row that stays the same over retries and restarts, so that whoever gets a row twice can tell.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use weir_rules::value::{Object, Value};

use crate::bridge::signer::mac::hex;
use crate::{Batch, Record};

/// Gives ids to the rows of one sink.
#[derive(Debug)]
pub(crate) struct MessageIds {
    store_id: String,
    /// The field that carries it.
    name: String,
    /// Whether a field that differs from it in case alone would be the same column.
    in_any_case: bool,
}

impl MessageIds {
    pub(crate) fn new(store_id: &str, name: &str) -> Self {
        Self {
            store_id: store_id.to_owned(),
            name: name.to_owned(),
            in_any_case: false,
        }
    }

    /// The same for a table whose columns are the row's fields, in a database that finds them without case.
    pub(crate) fn in_any_case(mut self) -> Self {
        self.in_any_case = true;
        self
    }

    /// The records of a batch, each with its id as one more field of its row.
    pub(crate) fn given(&self, batch: &Batch<'_>) -> Vec<Record> {
        let records = batch.records.iter().cloned();
        let each = records.map(|mut record| {
            let id = self.id(batch, &record);
            record.row = with_field(&record.row, &self.name, id.into(), self.in_any_case);
            record
        });
        each.collect()
    }

    /// 32 hexadecimal digits, which `uuid` columns read too.
    fn id(&self, batch: &Batch<'_>, record: &Record) -> String {
        hex(&row_id(&self.store_id, batch, record)[..16])
    }
}

/// What names a row, over retries and restarts.
///
/// Its number alone does not: two weirs with copies of one store give one number to different rows.
pub(crate) fn row_id(store_id: &str, batch: &Batch<'_>, record: &Record) -> [u8; 32] {
    let mut digest = Sha256::new();
    let parts = [
        store_id.as_bytes(),
        batch.rule.as_bytes(),
        batch.sink.as_bytes(),
        record.client_id.as_bytes(),
    ];
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.update(batch.epoch.to_be_bytes());
    digest.update(record.seq.to_be_bytes());
    digest.update(record.message_id.to_be_bytes());
    digest.update(record.accepted_at_ms.to_be_bytes());
    digest.finalize().into()
}

/// The row with one more field, in place of those that have its name; a row that is no object stays as it is.
pub(crate) fn with_field(row: &Value, name: &str, value: Value, in_any_case: bool) -> Value {
    let Value::Object(object) = row else {
        return row.clone();
    };
    let mut object: Object = (**object).clone();
    if in_any_case {
        object.retain(|key, _| !key.eq_ignore_ascii_case(name));
    }
    object.insert(name.into(), value);
    Value::Object(Arc::new(object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fence;
    use weir_rules::value::Text;

    fn ids(store_id: &str, epoch: u64, message_id: u128) -> Vec<String> {
        let row = weir_rules::json::decode(br#"{"n":1,"id":"its own"}"#).unwrap();
        let records: Vec<_> = (1..=2)
            .map(|seq| Record {
                seq,
                message_id,
                client_id: Text::from_static("c"),
                accepted_at_ms: 5,
                path: Text::default(),
                row: row.clone(),
            })
            .collect();
        // Another start gives the same ids.
        let fence = Fence::fresh();
        let batch = Batch {
            rule: "r",
            sink: "s",
            epoch,
            given_to: 0,
            fence: &fence,
            records: &records,
        };
        let given = MessageIds::new(store_id, "id").given(&batch);
        let id = |record: &Record| record.row.get("id").unwrap().as_str().unwrap().to_owned();
        given.iter().map(id).collect()
    }

    #[test]
    fn each_row_has_an_id_of_its_own_that_stays() {
        let first = ids("a", 1, 9);
        assert_eq!(first, ids("a", 1, 9));
        let mut all = first.clone();
        all.extend(ids("b", 1, 9));
        all.extend(ids("a", 2, 9));
        all.extend(ids("a", 1, 8));
        assert!(all.iter().all(|id| id.len() == 32), "{all:?}");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn a_field_that_is_the_same_column_gives_way_to_the_id() {
        let row = weir_rules::json::decode(br#"{"n":1,"ID":"its own"}"#).unwrap();
        let keys = |in_any_case| match with_field(&row, "id", Value::Int(1), in_any_case) {
            Value::Object(object) => object.iter().map(|(key, _)| key.to_string()).collect(),
            _ => Vec::new(),
        };
        let mut kept = keys(false);
        kept.sort();
        assert_eq!(kept, ["ID", "id", "n"]);
        let mut given = keys(true);
        given.sort();
        assert_eq!(given, ["id", "n"]);
    }
}
