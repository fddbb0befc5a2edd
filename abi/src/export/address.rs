//! `MQ_*` functions on an address, and on what may be an address or a message.
//!
//! Must never read a pointer that is not known to be live. Diagnostics: as in `misuse`.

use std::ffi::c_char;
use std::ptr;

use crate::access::{self, Wanted};
use crate::address::Owner;
use crate::message::Part;
use crate::state::State;
use crate::token::Opaque;

export! { MQ_email(address: *mut Opaque) -> *const c_char = email }
export! { MQ_local(recipient: *mut Opaque) -> u8 = local }
export! { MQ_setLocal(recipient: *mut Opaque, local: u8) = set_local }

fn email(function: &'static str, address: *mut Opaque) -> *const c_char {
    access::serve_address(function, address, ptr::null(), |state, owner| {
        let text = state.address_text(owner).filter(|text| !text.as_bytes().is_empty());
        text.map_or(ptr::null(), |text| text.as_terminated().as_ptr())
    })
}

/// D-70: the documentation names an address in one place and a message in another.
fn local(function: &'static str, recipient: *mut Opaque) -> u8 {
    on_recipient(function, recipient, 0, |state, owner| u8::from(state.is_local(owner)))
}

fn set_local(function: &'static str, recipient: *mut Opaque, local: u8) {
    on_recipient(function, recipient, (), |state, owner| state.set_local(owner, local != 0));
}

fn on_recipient<T>(
    function: &'static str,
    recipient: *mut Opaque,
    otherwise: T,
    f: impl FnOnce(&mut State, Owner) -> T,
) -> T {
    if !access::is_message(recipient) {
        return access::serve_address(function, recipient, otherwise, f);
    }
    access::serve(function, Wanted::Message, recipient, otherwise, |state, token| {
        state.message_with(token, &[Part::Recipient])?;
        Ok(f(state, Owner::Message(token.key(), Part::Recipient)))
    })
}
