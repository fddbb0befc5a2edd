//! One item, or some: the mails of a transaction, which nearly always is one.
//!
//! Diagnostics: none.

use std::ops::{Deref, DerefMut};

/// Items in their order; one alone needs no memory of its own.
#[derive(Clone, Debug)]
pub enum Few<T> {
    /// The only one.
    One(T),
    /// None, one or more.
    Some(Vec<T>),
}

impl<T> Few<T> {
    /// Takes out the item at `at`.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, at: usize) -> T {
        match self {
            Self::Some(items) => items.remove(at),
            Self::One(_) => match std::mem::replace(self, Self::Some(Vec::new())) {
                Self::One(item) if at == 0 => item,
                Self::One(_) | Self::Some(_) => panic!("there is one item alone"),
            },
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Some(items) => items,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(item) => std::slice::from_mut(item),
            Self::Some(items) => items,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        let Some(first) = items.next() else {
            return Self::Some(Vec::new());
        };
        let Some(second) = items.next() else {
            return Self::One(first);
        };
        Self::Some([first, second].into_iter().chain(items).collect())
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, some) = match self {
            Self::One(item) => (Some(item), Vec::new()),
            Self::Some(items) => (None, items),
        };
        one.into_iter().chain(some)
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// In whatever form, the same items are the same.
impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Few<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_items_is_kept_in_order() {
        for count in 0..4 {
            let few: Few<u32> = (0..count).collect();
            assert_eq!(matches!(few, Few::One(_)), count == 1);
            assert!(few.iter().copied().eq(0..count) && few.clone().into_iter().eq(0..count));
            for at in 0..count {
                let mut less = few.clone();
                assert_eq!(less.remove(at as usize), at);
                let left: Few<u32> = (0..count).filter(|&item| item != at).collect();
                assert_eq!(less, left);
            }
        }
    }
}
