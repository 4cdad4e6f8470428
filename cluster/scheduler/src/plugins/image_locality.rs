//! ImageLocality: nodes that have the images already.

use crate::{
    cluster::{Cluster, NodeState},
    framework::{MAX_SCORE, Plugin, Score},
    node::Node,
    pod::Pod,
};

/// Below this sum of bytes locality does not count (upstream's figure).
const LEAST: i64 = 23 << 20;
/// Above this many bytes a container it counts no more.
const MOST_PER_CONTAINER: i64 = 1000 << 20;

pub(super) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score<'a>(&self, pod: &'a Pod, cluster: &'a Cluster, _: &[usize]) -> Option<Box<dyn Score + 'a>> {
        let nodes = cluster.node_count().max(1) as f64;
        // The wider an image is spread the more it counts, lest one node draw all pods.
        let spread = pod
            .wish()
            .images
            .iter()
            .map(|image| (&**image, cluster.nodes_with_image(image) as f64 / nodes));
        let images: Vec<_> = spread.filter(|(_, spread)| *spread > 0.0).collect();
        let most = MOST_PER_CONTAINER * pod.wish().containers as i64;
        (!images.is_empty()).then(|| Box::new(Local { images, most }) as Box<dyn Score>)
    }
}

struct Local<'a> {
    images: Vec<(&'a str, f64)>,
    most: i64,
}

impl Score for Local<'_> {
    fn score(&self, _: &NodeState, node: &Node) -> i64 {
        let sizes = self
            .images
            .iter()
            .filter_map(|(image, spread)| Some((node.image_size(image)? as f64 * spread) as i64));
        let sum = sizes.sum::<i64>().clamp(LEAST, self.most.max(LEAST));
        MAX_SCORE * (sum - LEAST) / (self.most - LEAST).max(1)
    }
}
