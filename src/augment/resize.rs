//! Geometry of the evaluation views: nothing is random.

use super::crop::CropBox;
use super::resample::{Filter, Window};

/// The shorter side resized to 8/7 of the view's, then the centre (256 and 224 on ImageNet); the image itself where it already
/// has the view's size.
pub fn centre_window(image: (usize, usize), view: (usize, usize)) -> Window {
    if image == view {
        return whole_window(image, view);
    }
    let enlarged = |side: usize| (side as f64 * 256.0 / 224.0).round() as usize;
    // The axis that is shorter in proportion to the view decides; the other follows, rounded down.
    let rows_decide = image.0 * view.1 <= image.1 * view.0;
    let resized = if rows_decide {
        let height = enlarged(view.0);
        (height, (height * image.1 / image.0).max(view.1))
    } else {
        let width = enlarged(view.1);
        ((width * image.0 / image.1).max(view.0), width)
    };
    let offset = |resized: usize, view: usize| ((resized - view) as f64 / 2.0).round_ties_even() as usize;
    let keep = CropBox::at(offset(resized.0, view.0), offset(resized.1, view.1), view.0, view.1);
    Window { area: CropBox::at(0, 0, image.0, image.1), resized, keep, filter: Filter::Bilinear }
}

/// The whole image resized to the view, whatever its aspect ratio.
pub fn whole_window(image: (usize, usize), view: (usize, usize)) -> Window {
    Window::fill(CropBox::at(0, 0, image.0, image.1), view, Filter::Bilinear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_centre_of_imagenet_sizes_is_that_of_torchvision() {
        let window = centre_window((375, 500), (224, 224));
        assert_eq!((window.resized, window.keep), ((256, 341), CropBox::at(16, 58, 224, 224)));
        assert_eq!(centre_window((500, 333), (224, 224)).resized, (384, 256));
        assert_eq!(centre_window((32, 32), (32, 32)).resized, (32, 32));
    }

    #[test]
    fn odd_shapes_hold_the_view() {
        for image in [(1, 1), (1, 700), (700, 1), (31, 64), (64, 31)] {
            for view in [(1, 1), (5, 9), (32, 20)] {
                let Window { resized, keep, .. } = centre_window(image, view);
                assert!(keep.y1 <= resized.0 && keep.x1 <= resized.1, "{image:?} {view:?}");
                assert_eq!((keep.height(), keep.width()), view);
            }
        }
    }
}
