//! Volumes inside a pod: emptyDir, hostPath, configMap, secret, projected.
