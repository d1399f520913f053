//! Objects of the package's frozen dataclasses.
//!
//! Their `__init__` goes through `object.__setattr__` for each field, 0.2 µs at a time; a watch makes two objects for each
//! event. Here their slots are filled as an unpickler would, past `__init__`, by the slots' own descriptors.

use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};

/// A frozen dataclass with slots, looked up once.
pub(crate) struct Record {
    module: &'static str,
    name: &'static str,
    layout: PyOnceLock<Layout>,
}

struct Layout {
    class: Py<PyType>,
    /// The descriptors of the slots, in the order of the fields.
    slots: Vec<Py<PyAny>>,
    /// Sets one of them.
    set: ffi::descrsetfunc,
}

impl Record {
    /// The class of this name in `hither._types`.
    pub(crate) const fn named(name: &'static str) -> Self {
        Self { module: "hither._types", name, layout: PyOnceLock::new() }
    }

    /// An object of it, with a value for each field.
    pub(crate) fn make<'py>(
        &self,
        py: Python<'py>,
        values: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let layout = self.layout.get_or_try_init(py, || Layout::of(py, self.module, self.name))?;
        layout.fill(py, &values.into_pyobject(py)?)
    }
}

impl Layout {
    fn of(py: Python<'_>, module: &str, name: &str) -> PyResult<Self> {
        let class = py.import(module)?.getattr(name)?.cast_into::<PyType>()?;
        let member = py.import("types")?.getattr("MemberDescriptorType")?.cast_into::<PyType>()?;
        let slots = class.getattr("__slots__")?.try_iter()?.map(|field| {
            let slot = class.getattr(field?.cast_into::<PyString>()?)?;
            if slot.get_type().is(&member) {
                Ok(slot.unbind())
            } else {
                Err(PySystemError::new_err(format!("{name} has a field without a slot")))
            }
        });
        let slots = slots.collect::<PyResult<Vec<_>>>()?;
        Ok(Self { set: setter(&member)?, class: class.unbind(), slots })
    }

    #[expect(unsafe_code, reason = "the stable ABI's way to allocate an object and set a slot without a lookup")]
    fn fill<'py>(&self, py: Python<'py>, values: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        if values.len() != self.slots.len() {
            return Err(PySystemError::new_err(format!("{} has {} fields", self.class, self.slots.len())));
        }
        // SAFETY: a class of Python's allocates like this, all slots empty; an object or an exception is returned.
        let object = unsafe {
            let class = self.class.as_ptr().cast();
            Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class, 0))?
        };
        for (slot, value) in self.slots.iter().zip(values.iter_borrowed()) {
            // SAFETY: the descriptor is a slot's of the object's class, the function is that of such descriptors. It
            // takes its own reference to the value.
            if unsafe { (self.set)(slot.as_ptr(), object.as_ptr(), value.as_ptr()) } != 0 {
                return Err(PyErr::fetch(py));
            }
        }
        Ok(object)
    }
}

/// What sets an attribute through a descriptor of this type.
#[expect(unsafe_code, reason = "the stable ABI hands out a type's functions as untyped pointers")]
fn setter(descriptors: &Bound<'_, PyType>) -> PyResult<ffi::descrsetfunc> {
    // SAFETY: it is a type; what is in this place of it is such a function, or null.
    let set = unsafe {
        let slot = ffi::PyType_GetSlot(descriptors.as_type_ptr(), ffi::Py_tp_descr_set);
        std::mem::transmute::<*mut std::ffi::c_void, Option<ffi::descrsetfunc>>(slot)
    };
    set.ok_or_else(|| PySystemError::new_err("slots cannot be set"))
}
