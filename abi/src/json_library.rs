//! json-c and libfastjson as a plugin has them: their functions, found through the plugin itself.
//!
//! Objects are counted inside the library that made them, so it must be the very copy that the plugin
//! uses: nothing is linked here. Owns the prototypes and the calls through them. Must never be called
//! while a cell is borrowed, but for the look-ups that say so: what a plugin hung onto its objects runs
//! when they are written as text and when they go. Diagnostics: `None` where a function is missing.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use libloading::os::unix::Library;

use crate::generation::Generation;

/// An object of one of these libraries.
pub(crate) type Object = NonNull<c_void>;

type Raw = *mut c_void;

/// How many levels an object may have that is made from text, or is read back: itself, what is nested in
/// it, and the values in there.
const DEPTH_MAX: usize = 128;
// `json_type_*` and `fjson_type_*`.
const TYPE_OBJECT: c_int = 4;
const TYPE_ARRAY: c_int = 5;
const TYPE_STRING: c_int = 6;
/// `JSON_C_TO_STRING_PLAIN` and `FJSON_TO_STRING_PLAIN`.
const PLAIN: c_int = 0;

/// `struct json_object_iterator` of json-c.
#[derive(Clone, Copy)]
#[repr(C)]
struct JsonCIterator {
    opaque: *const c_void,
}

/// `struct fjson_object_iterator` of libfastjson 4.
#[derive(Clone, Copy)]
#[repr(C)]
struct FastjsonIterator {
    objs_remain: c_int,
    curr_idx: c_int,
    pg: *const c_void,
}

/// The functions that walk over an object's members.
#[derive(Clone, Copy)]
struct Walk<I> {
    begin: unsafe extern "C-unwind" fn(Raw) -> I,
    end: unsafe extern "C-unwind" fn(*const c_void) -> I,
    next: unsafe extern "C-unwind" fn(*mut I),
    equal: unsafe extern "C-unwind" fn(*const I, *const I) -> c_int,
    name: unsafe extern "C-unwind" fn(*const I) -> *const c_char,
    value: unsafe extern "C-unwind" fn(*const I) -> Raw,
}

#[derive(Clone, Copy)]
enum Walker {
    JsonC(Walk<JsonCIterator>),
    Fastjson(Walk<FastjsonIterator>),
}

/// One copy of one of the libraries.
#[derive(Clone, Copy)]
pub(crate) struct JsonLibrary {
    new_string: unsafe extern "C-unwind" fn(*const c_char, c_int) -> Raw,
    keep: unsafe extern "C-unwind" fn(Raw) -> Raw,
    put: unsafe extern "C-unwind" fn(Raw) -> c_int,
    kind: unsafe extern "C-unwind" fn(Raw) -> c_int,
    string: unsafe extern "C-unwind" fn(Raw) -> *const c_char,
    string_bytes: unsafe extern "C-unwind" fn(Raw) -> c_int,
    // Newer ones of json-c return a `size_t`, of which this is the lower half: more does not fit into memory.
    items: unsafe extern "C-unwind" fn(Raw) -> c_int,
    // Some take an `int`, which this is for any index that there is.
    item: unsafe extern "C-unwind" fn(Raw, usize) -> Raw,
    // Newer ones return whether it was done: nothing can be done about it.
    add: unsafe extern "C-unwind" fn(Raw, *const c_char, Raw),
    remove: unsafe extern "C-unwind" fn(Raw, *const c_char),
    find: unsafe extern "C-unwind" fn(Raw, *const c_char, *mut Raw) -> c_int,
    text: unsafe extern "C-unwind" fn(Raw, c_int) -> *const c_char,
    parser: unsafe extern "C-unwind" fn(c_int) -> Raw,
    parse: unsafe extern "C-unwind" fn(Raw, *const c_char, c_int) -> Raw,
    parser_free: unsafe extern "C-unwind" fn(Raw),
    walker: Walker,
}

/// What a member is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member<'a> {
    /// Not there, or null.
    None,
    /// A string of any octets.
    Text(&'a [u8]),
    /// Anything else.
    Other,
}

macro_rules! functions {
    ($library:expr, $prefix:literal, $walker:ident) => {{
        macro_rules! function {
            ($name:literal) => {{
                let symbol = concat!($prefix, $name, "\0").as_bytes();
                // SAFETY: the field's type is the prototype that the library's headers give this name,
                // and what a plugin was linked with stays loaded with it.
                *unsafe { $library.get(symbol) }.ok()?
            }};
        }
        Some(JsonLibrary {
            new_string: function!("object_new_string_len"),
            keep: function!("object_get"),
            put: function!("object_put"),
            kind: function!("object_get_type"),
            string: function!("object_get_string"),
            string_bytes: function!("object_get_string_len"),
            items: function!("object_array_length"),
            item: function!("object_array_get_idx"),
            add: function!("object_object_add"),
            remove: function!("object_object_del"),
            find: function!("object_object_get_ex"),
            text: function!("object_to_json_string_ext"),
            parser: function!("tokener_new_ex"),
            parse: function!("tokener_parse_ex"),
            parser_free: function!("tokener_free"),
            walker: Walker::$walker(Walk {
                begin: function!("object_iter_begin"),
                end: function!("object_iter_end"),
                next: function!("object_iter_next"),
                equal: function!("object_iter_equal"),
                name: function!("object_iter_peek_name"),
                value: function!("object_iter_peek_value"),
            }),
        })
    }};
}

impl JsonLibrary {
    /// The library that plugins of this generation use (D-0D).
    pub(crate) const fn name_of(generation: Generation) -> &'static str {
        match generation {
            Generation::G1 | Generation::G2 => "json-c",
            Generation::G3 => "libfastjson",
        }
    }

    /// What links it.
    pub(crate) const fn option_of(generation: Generation) -> &'static str {
        match generation {
            Generation::G1 | Generation::G2 => "-ljson-c",
            Generation::G3 => "-lfastjson",
        }
    }

    /// The copy that a plugin is linked with; `None` if it is with none.
    pub(crate) fn of_plugin(plugin: &Library, generation: Generation) -> Option<JsonLibrary> {
        match generation {
            Generation::G1 | Generation::G2 => functions!(plugin, "json_", JsonC),
            Generation::G3 => functions!(plugin, "fjson_", Fastjson),
        }
    }

    /// Are both the same copy?
    pub(crate) fn is(&self, other: &JsonLibrary) -> bool {
        ptr::fn_addr_eq(self.new_string, other.new_string)
    }

    /// Makes an object of the text of one; `None` for any other text, or without memory.
    pub(crate) fn parsed(&self, text: &[u8]) -> Option<Object> {
        let size = c_int::try_from(text.len()).ok()?;
        // SAFETY: it takes a depth.
        let parser = NonNull::new(unsafe { (self.parser)(DEPTH_MAX as c_int) })?.as_ptr();
        // SAFETY: the parser is live, and `size` bytes can be read.
        let object = unsafe { (self.parse)(parser, text.as_ptr().cast(), size) };
        // SAFETY: the parser is live, and not used any more.
        unsafe { (self.parser_free)(parser) };
        NonNull::new(object)
    }

    /// Takes back the one reference that making an object gave.
    ///
    /// # Safety
    /// `object` is one of this library, with such a reference, which is not used any more.
    pub(crate) unsafe fn put(&self, object: Object) {
        // SAFETY: the same promise.
        unsafe { (self.put)(object.as_ptr()) };
    }

    /// Puts a string in place of a member, or takes it away. Plugin code may run.
    ///
    /// # Safety
    /// `object` is a live one of this library.
    pub(crate) unsafe fn set(&self, object: Object, name: &CStr, value: Option<&[u8]>) {
        let Some(value) = value else {
            // SAFETY: the same promise; the name is a string.
            return unsafe { (self.remove)(object.as_ptr(), name.as_ptr()) };
        };
        let Ok(size) = c_int::try_from(value.len()) else { return };
        // SAFETY: `size` bytes can be read.
        let string = unsafe { (self.new_string)(value.as_ptr().cast(), size) };
        // SAFETY: the same promise; the name is a string, and the reference to the new one goes with it.
        unsafe { (self.add)(object.as_ptr(), name.as_ptr(), string) };
    }

    /// A member; its bytes are good until the object is changed. No plugin code runs.
    ///
    /// # Safety
    /// `object` is a live one of this library, and is not changed while `'a` lasts.
    pub(crate) unsafe fn member<'a>(&self, object: Object, name: &CStr) -> Member<'a> {
        let mut value: Raw = ptr::null_mut();
        // SAFETY: the same promise; the name is a string, and the place can be written.
        let found = unsafe { (self.find)(object.as_ptr(), name.as_ptr(), &mut value) };
        if found == 0 {
            return Member::None;
        }
        // SAFETY: what a live object holds is live.
        unsafe { self.value(value) }
    }

    /// # Safety
    /// `value` is NULL or a live object of this library, and is not changed while `'a` lasts.
    unsafe fn value<'a>(&self, value: Raw) -> Member<'a> {
        if value.is_null() {
            return Member::None;
        }
        // SAFETY: it is live.
        if unsafe { (self.kind)(value) } != TYPE_STRING {
            return Member::Other;
        }
        // SAFETY: it is live.
        let bytes = unsafe { (self.string)(value) };
        // SAFETY: it is live.
        let size = unsafe { (self.string_bytes)(value) };
        let Ok(size) = usize::try_from(size) else { return Member::Other };
        if bytes.is_null() {
            return Member::None;
        }
        // SAFETY: a string has as many bytes as it says, until it is changed.
        Member::Text(unsafe { std::slice::from_raw_parts(bytes.cast(), size) })
    }

    /// Is the object less deep than [`DEPTH_MAX`], and does it hold no more than `bytes` octets, of which
    /// each value has one at least? What a name in `skip` leads to is not counted. No plugin code runs, and
    /// a walk without end ends with the octets.
    ///
    /// # Safety
    /// `object` is a live one of this library.
    pub(crate) unsafe fn fits(
        &self,
        object: Object,
        mut bytes: usize,
        skip: impl Fn(&[u8]) -> bool,
    ) -> bool {
        let mut fits = true;
        let mut tell = |name: *const c_char, value: Raw| {
            // SAFETY: names are strings, and live as long as the member.
            let name = unsafe { CStr::from_ptr(name) }.to_bytes();
            // SAFETY: the value is NULL, which is null, or live.
            fits = skip(name)
                || spend(&mut bytes, name.len()) && unsafe { self.count(value, 2, &mut bytes) };
            fits
        };
        // SAFETY: the same promise.
        unsafe { self.walk(object.as_ptr(), &mut tell) };
        fits
    }

    /// Takes the octets of a value, which is on that level, from those that are left; false without enough.
    ///
    /// # Safety
    /// `value` is NULL or a live object of this library.
    unsafe fn count(&self, value: Raw, level: usize, left: &mut usize) -> bool {
        if level > DEPTH_MAX || !spend(left, 1) {
            return false;
        }
        if value.is_null() {
            return true;
        }
        // SAFETY: it is live.
        match unsafe { (self.kind)(value) } {
            TYPE_STRING => {
                // SAFETY: it is live.
                let size = unsafe { (self.string_bytes)(value) };
                usize::try_from(size).is_ok_and(|size| spend(left, size))
            }
            TYPE_ARRAY => {
                // SAFETY: it is live.
                let items = usize::try_from(unsafe { (self.items)(value) });
                items.is_ok_and(|items| {
                    (0..items).all(|at| {
                        // SAFETY: it has so many.
                        let item = unsafe { (self.item)(value, at) };
                        // SAFETY: what a live array holds is NULL or live.
                        unsafe { self.count(item, level + 1, left) }
                    })
                })
            }
            TYPE_OBJECT => {
                let mut fits = true;
                let mut tell = |name: *const c_char, value: Raw| {
                    // SAFETY: names are strings, and live as long as the member.
                    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
                    // SAFETY: the value is NULL, which is null, or live.
                    fits = spend(left, name.len()) && unsafe { self.count(value, level + 1, left) };
                    fits
                };
                // SAFETY: it is live, and nothing is changed while its members are told.
                unsafe { self.walk(value, &mut tell) };
                fits
            }
            _ => true,
        }
    }

    /// Takes back the one reference as [`put`](JsonLibrary::put) does, however deep the object is: the library
    /// calls itself for each level, and has a stack of one size.
    ///
    /// # Safety
    /// As for [`put`](JsonLibrary::put).
    pub(crate) unsafe fn put_deep(&self, object: Object) {
        let mut ours = vec![object.as_ptr()];
        while let Some(object) = ours.pop() {
            let inner = ours.len();
            let mut keep = |value: Raw| {
                if !value.is_null() {
                    // SAFETY: what a live object holds is live.
                    ours.push(unsafe { (self.keep)(value) });
                }
            };
            // SAFETY: this reference is ours.
            match unsafe { (self.kind)(object) } {
                TYPE_OBJECT => {
                    let mut tell = |_: *const c_char, value: Raw| {
                        keep(value);
                        true
                    };
                    // SAFETY: as above; members are counted, not changed.
                    unsafe { self.walk(object, &mut tell) };
                }
                TYPE_ARRAY => {
                    // SAFETY: as above.
                    let items = unsafe { (self.items)(object) };
                    for at in 0..usize::try_from(items).unwrap_or(0) {
                        // SAFETY: it has so many.
                        keep(unsafe { (self.item)(object, at) });
                    }
                }
                _ => {}
            }
            // SAFETY: this reference is ours, and not used any more.
            if unsafe { (self.put)(object) } == 1 {
                continue;
            }
            // Others hold it, and it what is in it: that goes no further.
            for value in ours.drain(inner..) {
                // SAFETY: this reference was made above.
                unsafe { (self.put)(value) };
            }
        }
    }

    /// # Safety
    /// `object` is a live one of this library; it is not changed meanwhile.
    unsafe fn walk(&self, object: Raw, tell: &mut dyn FnMut(*const c_char, Raw) -> bool) {
        match self.walker {
            // SAFETY: the same promise.
            Walker::JsonC(walk) => unsafe { walk.each(object, tell) },
            // SAFETY: the same promise.
            Walker::Fastjson(walk) => unsafe { walk.each(object, tell) },
        }
    }

    /// Tells `f` of every member: its name, and its value as the text of JSON unless `skip` has the name.
    /// Stops when `f` says so. Plugin code may run.
    ///
    /// # Safety
    /// `object` is a live one of this library that [`fits`](JsonLibrary::fits), and `f` does not change it.
    pub(crate) unsafe fn each(
        &self,
        object: Object,
        skip: impl Fn(&[u8]) -> bool,
        mut f: impl FnMut(&[u8], &[u8]) -> bool,
    ) {
        let mut tell = |name: *const c_char, value: Raw| {
            // SAFETY: names are strings, and live as long as the member.
            let name = unsafe { CStr::from_ptr(name) }.to_bytes();
            if skip(name) {
                return true;
            }
            // SAFETY: the value is NULL, which is null, or live.
            let text = unsafe { (self.text)(value, PLAIN) };
            if text.is_null() {
                return true;
            }
            // SAFETY: it is a string, and stays until the value is written as text again.
            f(name, unsafe { CStr::from_ptr(text) }.to_bytes())
        };
        // SAFETY: the same promise.
        unsafe { self.walk(object.as_ptr(), &mut tell) };
    }

    /// Puts the members of `from` in place of those of `to`. Plugin code may run.
    ///
    /// # Safety
    /// Both are live objects of this library, and not the same.
    pub(crate) unsafe fn refill(&self, to: Object, from: Object) {
        let mut names = Vec::new();
        // SAFETY: it is live, and nothing is changed while its members are told.
        unsafe { self.names(to, &mut names) };
        for name in names.drain(..) {
            // SAFETY: it is live; the name is a string.
            unsafe { (self.remove)(to.as_ptr(), name.as_ptr()) };
        }
        // SAFETY: as above.
        unsafe { self.names(from, &mut names) };
        for name in names {
            let mut value: Raw = ptr::null_mut();
            // SAFETY: it is live, the name is a string, the place can be written.
            unsafe { (self.find)(from.as_ptr(), name.as_ptr(), &mut value) };
            // SAFETY: NULL, or what a live object holds.
            let value = unsafe { (self.keep)(value) };
            // SAFETY: it is live; the reference that was just made goes with the value.
            unsafe { (self.add)(to.as_ptr(), name.as_ptr(), value) };
        }
    }

    /// # Safety
    /// `object` is a live one of this library.
    unsafe fn names(&self, object: Object, names: &mut Vec<std::ffi::CString>) {
        let mut note = |name: *const c_char, _: Raw| {
            // SAFETY: names are strings, and live as long as the member.
            names.push(unsafe { CStr::from_ptr(name) }.to_owned());
            true
        };
        // SAFETY: the same promise.
        unsafe { self.walk(object.as_ptr(), &mut note) };
    }
}

/// Takes octets from those that are left; false if there are not enough.
fn spend(left: &mut usize, bytes: usize) -> bool {
    let rest = left.checked_sub(bytes);
    *left = rest.unwrap_or(0);
    rest.is_some()
}

impl<I: Copy> Walk<I> {
    /// # Safety
    /// `object` is a live one of the library that these functions are of; it is not changed meanwhile.
    unsafe fn each(&self, object: Raw, tell: &mut dyn FnMut(*const c_char, Raw) -> bool) {
        // SAFETY: the same promise.
        let mut at = unsafe { (self.begin)(object) };
        // SAFETY: the same promise.
        let end = unsafe { (self.end)(object) };
        // SAFETY: both are of one object, here and in each further round.
        while unsafe { (self.equal)(&at, &end) } == 0 {
            // SAFETY: it is not at the end.
            let name = unsafe { (self.name)(&at) };
            // SAFETY: it is not at the end.
            let value = unsafe { (self.value)(&at) };
            if name.is_null() || !tell(name, value) {
                return;
            }
            // SAFETY: it is not at the end.
            unsafe { (self.next)(&mut at) };
        }
    }
}

impl std::fmt::Debug for JsonLibrary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.walker {
            Walker::JsonC(_) => "json-c",
            Walker::Fastjson(_) => "libfastjson",
        })
    }
}
