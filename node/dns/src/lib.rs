//! Cluster DNS answered from the API's objects.
