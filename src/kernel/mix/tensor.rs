//! The portable form of the mixture: plain tensor operations, on every backend.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::mixture::bbox::shown;
use crate::mixture::{Kind, Row, Stage};

/// One stage.
///
/// # Shapes
/// - `images` `[t, c, h, w]` to `[keep, c, h, w]`
pub fn mix_stage(images: Tensor<4>, stage: &Stage, keep: usize) -> Tensor<4> {
    let source = images.clone();
    let mixed = stage.passes.iter().fold(images, |own, pass| apply(own, &source, pass));
    let [t, c, h, w] = mixed.dims();
    if keep == t { mixed } else { mixed.slice([0..keep, 0..c, 0..h, 0..w]) }
}

/// One pass: row i of the result comes from `own[i]` and `source[partner_i]`. Kinds that no row has cost nothing.
fn apply(own: Tensor<4>, source: &Tensor<4>, rows: &[Row]) -> Tensor<4> {
    let (device, dtype) = (own.device(), own.dtype());
    let dims = own.dims();
    let any = |kind| rows.iter().any(|row| row.kind == kind);
    let column = |value: &dyn Fn(&Row) -> f32| -> Tensor<4> {
        let values: Vec<f32> = rows.iter().map(value).collect();
        Tensor::from_data(TensorData::new(values, [rows.len(), 1, 1, 1]), (&device, dtype))
    };
    // Multiplying by 1 is exact, so that rows without a scale keep their bits; but skip it when all are 1.
    let mut out = if rows.iter().all(|row| row.own_scale == 1.0) { own } else { own * column(&|row| row.own_scale) };

    if rows.iter().any(|row| row.kind.reads_partner()) {
        let partners: Vec<i32> =
            rows.iter().enumerate().map(|(i, row)| if row.kind.reads_partner() { row.partner as i32 } else { i as i32 }).collect();
        let other = source.clone().select(0, Tensor::<1, Int>::from_data(TensorData::new(partners, [rows.len()]), &device));
        if any(Kind::Blend) {
            let blended = out.clone() * column(&|row| row.lambda) + other.clone() * column(&|row| 1.0 - row.lambda);
            let mask = row_mask(rows, &device, |row| row.kind == Kind::Blend).expand(dims);
            out = out.mask_where(mask, blended);
        }
        if any(Kind::Paste) {
            out = out.mask_where(box_mask(rows, dims, &device, Kind::Paste), other.clone());
        }
        if any(Kind::Resize) {
            out = out.mask_where(box_mask(rows, dims, &device, Kind::Resize), resized(other, rows));
        }
    }
    if any(Kind::Fill) {
        out = out.mask_where(box_mask(rows, dims, &device, Kind::Fill), column(&|row| row.fill_value).expand(dims));
    }
    out
}

/// Each image scaled to the box of its row, where the box is; around it, and in rows without a box, the values are of no use.
fn resized(images: Tensor<4>, rows: &[Row]) -> Tensor<4> {
    let (device, dims) = (images.device(), images.dims());
    let [t, _, h, w] = dims;
    let places = |size: usize, shape: [usize; 4], range: &dyn Fn(&Row) -> (u32, u32)| {
        let along = |row: &Row| {
            let (from, to) = range(row);
            (0..size as u32).map(move |at| shown(at, from, to, size as u32) as i32)
        };
        let places: Vec<i32> = rows.iter().flat_map(along).collect();
        Tensor::<4, Int>::from_data(TensorData::new(places, shape), &device).expand(dims)
    };
    let lines = places(h, [t, 1, h, 1], &|row| (row.bbox.y0, row.bbox.y1));
    let columns = places(w, [t, 1, 1, w], &|row| (row.bbox.x0, row.bbox.x1));
    images.gather(2, lines).gather(3, columns)
}

/// True for the rows that `choose` takes, `[t, 1, 1, 1]`.
fn row_mask(rows: &[Row], device: &Device, choose: impl Fn(&Row) -> bool) -> Tensor<4, Bool> {
    let values: Vec<i32> = rows.iter().map(|row| i32::from(choose(row))).collect();
    Tensor::<4, Int>::from_data(TensorData::new(values, [rows.len(), 1, 1, 1]), device).equal_elem(1)
}

/// True inside the boxes of the rows of one kind, `[t, c, h, w]`.
fn box_mask(rows: &[Row], dims: [usize; 4], device: &Device, kind: Kind) -> Tensor<4, Bool> {
    let [t, _, h, w] = dims;
    let inside = |size: usize, axis: usize, low: &dyn Fn(&Row) -> u32, high: &dyn Fn(&Row) -> u32| -> Tensor<4, Bool> {
        let shape = if axis == 2 { [t, 1, h, 1] } else { [t, 1, 1, w] };
        let bits: Vec<i32> = rows
            .iter()
            .flat_map(|row| {
                let range = if row.kind == kind { low(row)..high(row) } else { 0..0 };
                (0..size as u32).map(move |at| i32::from(range.contains(&at)))
            })
            .collect();
        Tensor::<4, Int>::from_data(TensorData::new(bits, shape), device).equal_elem(1)
    };
    let y = inside(h, 2, &|row| row.bbox.y0, &|row| row.bbox.y1).expand(dims);
    let x = inside(w, 3, &|row| row.bbox.x0, &|row| row.bbox.x1).expand(dims);
    y.bool_and(x)
}
