//! What a caller says of a put besides keys and values.

use crate::ffi::text::key_bytes;
use crate::keys::Keys;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::{Bound, PyAny, PyAnyMethods, PyResult};
use snowskin_client::{Durability, PutOptions};
use std::time::Duration;

/// The options of all objects of a call.
pub(crate) struct Options {
    pub(crate) replace: bool,
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

/// The keywords as they come.
pub(crate) struct Wishes<'a, 'py> {
    pub(crate) replace: bool,
    pub(crate) durability: &'a str,
    pub(crate) soft_pin: Option<f64>,
    pub(crate) hard_pin: bool,
    pub(crate) group: Option<&'a Bound<'py, PyAny>>,
    pub(crate) parents: Option<&'a Bound<'py, PyAny>>,
    pub(crate) chain: bool,
}

impl Options {
    /// Of a call with so many keys.
    pub(crate) fn of(wishes: &Wishes<'_, '_>, keys: &Keys) -> PyResult<Options> {
        let durability = match wishes.durability {
            "memory" => Durability::Memory,
            "ssd" => Durability::Ssd,
            other => {
                let words = format!("durability is \"memory\" or \"ssd\", not {other:?}");
                return Err(PyValueError::new_err(words));
            }
        };
        let group = wishes.group.map(|group| key_bytes(group).map(<[u8]>::to_vec)).transpose()?;
        let soft_pin = wishes.soft_pin.map(|seconds| duration("soft_pin", seconds)).transpose()?;
        let shared = PutOptions { soft_pin, hard_pin: wishes.hard_pin, group, parent: None, durability };
        Ok(Options { replace: wishes.replace, shared, parents: parents(wishes, keys)? })
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

fn parents(wishes: &Wishes<'_, '_>, keys: &Keys) -> PyResult<Parents> {
    let Some(parents) = wishes.parents else {
        return Ok(if wishes.chain { Parents::Chain(None) } else { Parents::None });
    };
    if wishes.chain || keys.is_one {
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
