//! One fact as one JSON object: the lines of a full export. Nothing is lost on the way there and back.

use halcyon_core::{
    clock::{ClientId, Timestamp, read_timestamp, timestamp_to_bytes},
    codec::Reader,
    fact::{Fact, FactBody},
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag},
    numbers::TakenNumbers,
    value::Value,
};
use serde_json::{Map, Value as Json, json};

use super::value_args::excerpt;

/// The fact as a line has it.
pub fn to_json(fact: &Fact) -> Json {
    let mut line = match &fact.body {
        FactBody::Register {
            subject,
            predicate,
            timestamp,
            value,
        } => json!({
            "fact": "register", "subject": subject.as_str(), "predicate": predicate.as_str(),
            "value": value.as_ref().map(Value::to_typed_json), "timestamp": timestamp_text(timestamp),
        }),
        FactBody::Element {
            subject,
            predicate,
            timestamp,
            value,
            present,
        } => json!({
            "fact": "element", "subject": subject.as_str(), "predicate": predicate.as_str(),
            "value": value.to_typed_json(), "present": present, "timestamp": timestamp_text(timestamp),
        }),
        FactBody::Tombstone { subject } => json!({ "fact": "tombstone", "subject": subject.as_str() }),
        FactBody::Numbers { client, taken } => json!({
            "fact": "numbers", "client": hex::encode(client.to_bytes()), "taken": hex::encode(taken.encode()),
        }),
        FactBody::Opaque {
            timestamp,
            place,
            kind,
            body,
        } => json!({
            "fact": "opaque", "timestamp": timestamp_text(timestamp), "place": place, "kind": kind,
            "body": hex::encode(body),
        }),
    };
    if let Some(object) = line.as_object_mut() {
        let incarnation = format!("{:x}", fact.tag.origin.incarnation);
        object.insert(
            "tag".into(),
            json!([fact.tag.origin.node.0, incarnation, fact.tag.seq.0]),
        );
    }
    line
}

/// Reads what [`to_json`] wrote; the error names the field.
pub fn from_json(line: &Json) -> Result<Fact, String> {
    let object = line.as_object().ok_or("not an object")?;
    let kind = text(object, "fact")?;
    check_keys(object, keys(kind))?;
    let body = match kind {
        "register" => FactBody::Register {
            subject: subject(object)?,
            predicate: predicate(object)?,
            timestamp: timestamp(object)?,
            value: match object.get("value") {
                // Null is a field that was unset; without the key the line is not whole.
                Some(Json::Null) => None,
                _ => Some(value(object)?),
            },
        },
        "element" => FactBody::Element {
            subject: subject(object)?,
            predicate: predicate(object)?,
            timestamp: timestamp(object)?,
            value: value(object)?,
            present: object
                .get("present")
                .and_then(Json::as_bool)
                .ok_or("`present` is missing")?,
        },
        "tombstone" => FactBody::Tombstone {
            subject: subject(object)?,
        },
        "numbers" => FactBody::Numbers {
            client: ClientId::from_bytes(array(&bytes(object, "client")?, "client")?)
                .map_err(|error| error.to_string())?,
            taken: TakenNumbers::decode(&bytes(object, "taken")?).map_err(|error| error.to_string())?,
        },
        "opaque" => FactBody::Opaque {
            timestamp: timestamp(object)?,
            place: whole(object, "place")?,
            kind: whole(object, "kind")?,
            body: bytes(object, "body")?,
        },
        other => {
            let other = excerpt(other);
            return Err(format!("{other:?} is not a kind of fact that this release knows"));
        }
    };
    Ok(Fact {
        tag: tag(object)?,
        body,
    })
}

/// Refuses a key that is none of `known`: it would be lost.
pub fn check_keys(object: &Map<String, Json>, known: &[&str]) -> Result<(), String> {
    let unknown = object.keys().find(|key| !known.contains(&key.as_str()));
    unknown.map_or(Ok(()), |key| Err(format!("`{}` does not belong here", excerpt(key))))
}

/// The keys of a line, by the kind of its fact. An unknown kind is told by whoever reads its body.
fn keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "register" => &["fact", "tag", "subject", "predicate", "timestamp", "value"],
        "element" => &["fact", "tag", "subject", "predicate", "timestamp", "value", "present"],
        "numbers" => &["fact", "tag", "client", "taken"],
        "opaque" => &["fact", "tag", "timestamp", "place", "kind", "body"],
        _ => &["fact", "tag", "subject"],
    }
}

/// Readable and sortable: the time in hexadecimal, then the client.
fn timestamp_text(timestamp: &Timestamp) -> String {
    let bytes = timestamp_to_bytes(timestamp);
    format!("{}-{}", hex::encode(&bytes[..8]), hex::encode(&bytes[8..]))
}

fn timestamp(object: &Map<String, Json>) -> Result<Timestamp, String> {
    let bytes =
        hex::decode(text(object, "timestamp")?.replace('-', "")).map_err(|_| "`timestamp` is not hexadecimal")?;
    let bytes: [u8; 24] = array(&bytes, "timestamp")?;
    read_timestamp(&mut Reader::new(&bytes)).map_err(|error| error.to_string())
}

fn tag(object: &Map<String, Json>) -> Result<Tag, String> {
    let wrong = "`tag` is not [node, \"incarnation\", seq]";
    let parts = object.get("tag").and_then(Json::as_array).ok_or(wrong)?;
    let [node, incarnation, seq] = parts.as_slice() else {
        return Err(wrong.into());
    };
    let incarnation = incarnation.as_str().and_then(|text| u64::from_str_radix(text, 16).ok());
    Ok(Tag {
        origin: OriginId {
            node: NodeId(node.as_u64().ok_or(wrong)?),
            incarnation: incarnation.ok_or(wrong)?,
        },
        seq: Seq(seq.as_u64().ok_or(wrong)?),
    })
}

fn text<'a>(object: &'a Map<String, Json>, field: &str) -> Result<&'a str, String> {
    object
        .get(field)
        .and_then(Json::as_str)
        .ok_or_else(|| format!("`{field}` is missing"))
}

fn subject(object: &Map<String, Json>) -> Result<EntityId, String> {
    EntityId::new(text(object, "subject")?).map_err(|error| error.to_string())
}

fn predicate(object: &Map<String, Json>) -> Result<Predicate, String> {
    Predicate::new(text(object, "predicate")?).map_err(|error| error.to_string())
}

fn value(object: &Map<String, Json>) -> Result<Value, String> {
    let json = object.get("value").ok_or("`value` is missing")?;
    Value::from_typed_json(json).map_err(|error| error.to_string())
}

fn bytes(object: &Map<String, Json>, field: &str) -> Result<Vec<u8>, String> {
    hex::decode(text(object, field)?).map_err(|_| format!("`{field}` is not hexadecimal"))
}

fn array<const N: usize>(bytes: &[u8], field: &str) -> Result<[u8; N], String> {
    bytes
        .try_into()
        .map_err(|_| format!("`{field}` has {} bytes instead of {N}", bytes.len()))
}

fn whole<T: TryFrom<u64>>(object: &Map<String, Json>, field: &str) -> Result<T, String> {
    let number = object.get(field).and_then(Json::as_u64);
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("`{field}` is not a fitting number"))
}

#[cfg(test)]
mod tests {
    use halcyon_core::clock::{NTP64, timestamp};

    use super::*;

    #[test]
    fn every_kind_of_fact_reads_back() {
        let subject = EntityId::new("a \u{1f600}").unwrap();
        let predicate = Predicate::new("issue/title").unwrap();
        let client = ClientId::from_random(u128::MAX - 5);
        let timestamp = timestamp(NTP64(u64::MAX - 3), client);
        let mut taken = TakenNumbers::default();
        taken.take(halcyon_core::numbers::Recent {
            number: 1,
            seq: Seq(9),
            hash: 3,
        });
        let register = |value| FactBody::Register {
            subject: subject.clone(),
            predicate: predicate.clone(),
            timestamp,
            value,
        };
        let element = |present| FactBody::Element {
            subject: subject.clone(),
            predicate: predicate.clone(),
            timestamp,
            value: Value::Date(5),
            present,
        };
        let bodies = [
            register(Some(Value::string("x"))),
            register(Some(Value::Json("{\"$date\":1}".into()))),
            register(None),
            element(true),
            element(false),
            FactBody::Tombstone {
                subject: subject.clone(),
            },
            FactBody::Numbers { client, taken },
            FactBody::Opaque {
                timestamp,
                place: 2,
                kind: 200,
                body: vec![1, 2],
            },
        ];
        for body in bodies {
            let origin = OriginId {
                node: NodeId(3),
                incarnation: u64::MAX - 1,
            };
            let fact = Fact {
                tag: Tag { origin, seq: Seq(7) },
                body,
            };
            let line: Json = serde_json::from_str(&to_json(&fact).to_string()).unwrap();
            assert_eq!(from_json(&line), Ok(fact));
        }
    }

    #[test]
    fn what_is_missing_or_does_not_belong_is_refused() {
        let line = |json: &str| from_json(&serde_json::from_str(json).unwrap()).unwrap_err();
        for (json, words) in [
            (
                r#"{"fact":"tombstone","subject":"a","tag":[1,"a",1],"more":1}"#,
                "`more`",
            ),
            (r#"{"fact":"tombstone","tag":[1,"a",1]}"#, "`subject` is missing"),
            (r#"{"fact":"tombstone","subject":"a"}"#, "`tag`"),
            (r#"{"fact":"comet","tag":[1,"a",1]}"#, "comet"),
            ("[]", "not an object"),
        ] {
            assert!(line(json).contains(words), "{json}: {}", line(json));
        }
    }

    #[test]
    fn a_register_without_a_value_is_not_one_that_was_unset() {
        let timestamp = timestamp_text(&timestamp(NTP64(1), ClientId::from_random(1)));
        let read = |value: &str| {
            let line = format!(
                r#"{{"fact":"register","subject":"a","predicate":"a/b","timestamp":"{timestamp}","tag":[1,"a",1]{value}}}"#
            );
            from_json(&serde_json::from_str(&line).unwrap())
        };
        assert!(read(r#","value":null"#).is_ok());
        assert!(read("").unwrap_err().contains("`value` is missing"));
    }
}
