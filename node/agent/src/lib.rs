//! The node agent: what the kubelet is upstream.
