//! The Kubernetes API client: one interface, two transports (in-process, HTTPS), informers, work queues and leases.
