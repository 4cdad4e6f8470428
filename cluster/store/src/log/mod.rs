//! stub
use crate::Error;
pub(crate) struct Journal;
impl Journal {
    pub fn make_room(&mut self, _b: usize) -> Result<(), Error> {
        Ok(())
    }
    pub fn make_room_from_reserve(&mut self, _b: usize) -> Result<(), Error> {
        Ok(())
    }
    pub fn append(&mut self, _p: &[u8]) -> Result<(), Error> {
        Ok(())
    }
    pub fn next_sequence(&self) -> u64 {
        0
    }
}
