//! Resource facts: the compact schema table and what derives from it.
