//! What a caller says of a put besides keys and values.

use crate::ffi::text::key_bytes;
use crate::keys::Keys;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::{Bound, PyAny, PyAnyMethods, PyResult};
use pyo3::types::PyDict;
use snowskin_client::{Durability, PutOptions};
use snowskin_protocol::limits::MORE_REPLICAS_MAX;
use std::time::Duration;

/// The options of all objects of a call.
pub(crate) struct Options {
    pub(crate) replace: bool,
    /// Seconds that the call may take.
    pub(crate) deadline: Option<f64>,
    shared: PutOptions,
    parents: Parents,
}

/// The block before each in its chain.
enum Parents {
    None,
    /// Each has the key before it, and the first has this one, if any.
    Chain(Option<Vec<u8>>),
    /// An empty one is none.
    Each(Vec<Vec<u8>>),
}

impl Options {
    /// The keywords of a call with these keys. One that is not known is refused.
    pub(crate) fn of(given: Option<&Bound<'_, PyDict>>, keys: &Keys) -> PyResult<Options> {
        let mut options =
            Options { replace: false, deadline: None, shared: PutOptions::default(), parents: Parents::None };
        let (mut parents, mut is_chain) = (None, false);
        for (name, value) in given.into_iter().flatten() {
            let shared = &mut options.shared;
            match name.extract::<String>()?.as_str() {
                "replace" => options.replace = value.extract()?,
                "deadline" => options.deadline = value.extract()?,
                "durability" => shared.durability = durability(&value.extract::<String>()?)?,
                "keep_soft_pin" => shared.keep_soft_pin = value.extract()?,
                "hard_pin" => shared.hard_pin = value.extract()?,
                "replicas" => shared.more_replicas = more_replicas(&value)?,
                "chain" => is_chain = value.extract()?,
                "soft_pin" | "group" | "parents" if value.is_none() => {}
                "soft_pin" => shared.soft_pin = Some(duration("soft_pin", value.extract()?)?),
                "group" => shared.group = Some(key_bytes(&value)?.to_vec()),
                "parents" => parents = Some(value),
                other => {
                    let words = format!(
                        "put has no option {other:?}: use replace, durability, replicas, soft_pin, keep_soft_pin, hard_pin, group, parents, chain or deadline"
                    );
                    return Err(PyTypeError::new_err(words));
                }
            }
        }
        options.parents = parents_of(parents.as_ref(), is_chain, keys)?;
        Ok(options)
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.parents, Parents::None) && self.shared == PutOptions::default()
    }

    /// Those of the object with this number.
    pub(crate) fn of_object(&self, keys: &Keys, number: usize) -> PutOptions {
        let parent = match &self.parents {
            Parents::None => None,
            Parents::Chain(first) if number == 0 => first.clone(),
            Parents::Chain(_) => Some(keys.get(number - 1).to_vec()),
            Parents::Each(parents) => Some(parents[number].clone()).filter(|parent| !parent.is_empty()),
        };
        PutOptions { parent, ..self.shared.clone() }
    }
}

fn durability(name: &str) -> PyResult<Durability> {
    match name {
        "memory" => Ok(Durability::Memory),
        "ssd" => Ok(Durability::Ssd),
        other => Err(PyValueError::new_err(format!("durability is \"memory\" or \"ssd\", not {other:?}"))),
    }
}

/// The most replicas of an object that a put may ask for.
pub(crate) const REPLICAS_MAX: usize = 1 + MORE_REPLICAS_MAX;

/// Replicas besides the first.
fn more_replicas(replicas: &Bound<'_, PyAny>) -> PyResult<usize> {
    let count: i64 = replicas.extract()?;
    usize::try_from(count - 1).ok().filter(|more| *more < REPLICAS_MAX).ok_or_else(|| {
        let words = format!("replicas is how many there shall be in all, 1 to {REPLICAS_MAX}, not {count}");
        PyValueError::new_err(words)
    })
}

fn parents_of(parents: Option<&Bound<'_, PyAny>>, is_chain: bool, keys: &Keys) -> PyResult<Parents> {
    let Some(parents) = parents else {
        return Ok(if is_chain { Parents::Chain(None) } else { Parents::None });
    };
    if is_chain || keys.is_one {
        // One key: of the first of the chain, or of the only object.
        return Ok(Parents::Chain(Some(key_bytes(parents)?.to_vec())));
    }
    let mut each = Vec::with_capacity(keys.count());
    for parent in parents.try_iter()? {
        let parent = parent?;
        each.push(if parent.is_none() { Vec::new() } else { key_bytes(&parent)?.to_vec() });
    }
    match each.len() == keys.count() {
        true => Ok(Parents::Each(each)),
        false => {
            let words = format!(
                "{} keys and {} parents: one for each is needed (None: it has none), or chain=True",
                keys.count(),
                each.len()
            );
            Err(PyValueError::new_err(words))
        }
    }
}

/// Seconds as a time.
pub(crate) fn duration(what: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| PyValueError::new_err(format!("{what} is a time in seconds above 0, not {seconds}")))
}
