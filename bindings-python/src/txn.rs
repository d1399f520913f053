//! Transactions, from the steps and conditions of `hither.op` and `hither.when`.

use hither::{Compare, Delete, Key, LeaseId, Projection, Put, Relation, Revision, TxnOp, Version};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use crate::call::run;
use crate::client::Core;
use crate::convert::{Blob, Keys, LeaseArgument, Seconds};
use crate::types::Stamped;

/// Runs `then` if every condition holds, `otherwise` if not.
#[pyfunction]
#[pyo3(signature = (core, when, then, otherwise, timeout))]
pub(crate) fn kv_txn(
    py: Python<'_>,
    core: &Core,
    when: Vec<Condition>,
    then: Vec<Step>,
    otherwise: Vec<Step>,
    timeout: Option<Seconds>,
) -> PyResult<Py<PyAny>> {
    let mut txn = core.client()?.txn();
    txn = when.into_iter().fold(txn, |txn, Condition(compare)| txn.when(compare));
    txn = then.into_iter().fold(txn, |txn, Step(op)| txn.then(op));
    txn = otherwise.into_iter().fold(txn, |txn, Step(op)| txn.or_else(op));
    if let Some(Seconds(timeout)) = timeout {
        txn = txn.timeout(timeout);
    }
    run(core, py, async move { txn.stamped().await.map(|(stamp, reply)| Stamped(stamp, reply)) })
}

/// A `hither.Condition`.
pub(crate) struct Condition(Compare);

impl FromPyObject<'_, '_> for Condition {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let Some(subject) = object.getattr_opt(intern!(py, "subject"))? else {
            return Err(wanted("a condition of hither.when", object));
        };
        let keys = object.getattr(intern!(py, "key"))?;
        let operand = object.getattr(intern!(py, "operand"))?;
        let key = || keys.extract::<Blob>().map(Key::from);
        let relation = || relation(&object.getattr(intern!(py, "relation"))?);
        let number = || operand.extract::<u64>();
        let compare = match subject.extract::<String>()?.as_str() {
            "value" => Compare::Value(key()?, relation()?, operand.extract::<Blob>()?.0),
            "version" => Compare::Version(key()?, relation()?, Version(number()?)),
            "create_revision" => Compare::CreateRevision(key()?, relation()?, Revision(number()?)),
            "mod_revision" => Compare::ModRevision(key()?, relation()?, Revision(number()?)),
            "exists" => Compare::Exists(key()?),
            "absent" => Compare::Absent(key()?),
            "empty" => Compare::RangeEmpty(keys.extract::<Keys>()?.0),
            "lease" => Compare::Lease(key()?, lease(&operand)?),
            other => return Err(PyValueError::new_err(format!("there is no condition on {other:?}"))),
        };
        Ok(Self(compare))
    }
}

/// A `hither.Step`.
pub(crate) struct Step(TxnOp);

impl FromPyObject<'_, '_> for Step {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let Some(verb) = object.getattr_opt(intern!(py, "verb"))? else {
            return Err(wanted("a step of hither.op", object));
        };
        let keys = object.getattr(intern!(py, "keys"))?;
        let previous = || object.getattr(intern!(py, "previous"))?.is_truthy();
        let op = match verb.extract::<String>()?.as_str() {
            "get" => TxnOp::Get(keys.extract::<Blob>()?.into()),
            "put" => TxnOp::Put(Put {
                key: keys.extract::<Blob>()?.into(),
                value: object.getattr(intern!(py, "value"))?.extract::<Blob>()?.0,
                lease: lease(&object.getattr(intern!(py, "lease"))?)?,
                previous: previous()?,
            }),
            "delete" => TxnOp::Delete(Delete { range: keys.extract::<Keys>()?.0, previous: previous()? }),
            "list" => TxnOp::Range {
                range: keys.extract::<Keys>()?.0,
                limit: object.getattr(intern!(py, "limit"))?.extract()?,
                reverse: object.getattr(intern!(py, "reverse"))?.is_truthy()?,
                projection: if object.getattr(intern!(py, "keys_only"))?.is_truthy()? {
                    Projection::KeysOnly
                } else {
                    Projection::Entries
                },
            },
            other => return Err(PyValueError::new_err(format!("there is no step {other:?}"))),
        };
        Ok(Self(op))
    }
}

fn relation(word: &Bound<'_, PyAny>) -> PyResult<Relation> {
    match word.extract::<String>()?.as_str() {
        "==" => Ok(Relation::Equal),
        "!=" => Ok(Relation::NotEqual),
        "<" => Ok(Relation::Less),
        ">" => Ok(Relation::Greater),
        other => Err(PyValueError::new_err(format!("{other:?} is no relation: write ==, !=, < or >"))),
    }
}

fn lease(lease: &Bound<'_, PyAny>) -> PyResult<Option<LeaseId>> {
    Ok(lease.extract::<Option<LeaseArgument>>()?.map(|LeaseArgument(lease)| lease))
}

fn wanted(what: &str, object: Borrowed<'_, '_, PyAny>) -> PyErr {
    let name = object.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{what} is wanted here, not {name}"))
}
