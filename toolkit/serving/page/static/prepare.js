// From an image file to the pixels that the model takes, as toolkit/preprocess does it with Pillow.
//
// Resizing is Pillow's to the bit (libImaging/Resample.c, 8 bits per channel): weights in fixed point, first across, then
// down. Pillow 13 does it the other way round where a picture loses more than twice as many rows as columns, which is a
// grey level here and there. Decoding is the browser's own, so pixels can differ where decoders do: by a grey level or two in a JPEG, and
// where a large JPEG is decoded at a part of its size, which a browser cannot do and which is averaged here instead.

const PRECISION_BITS = 32 - 8 - 2;
const LARGEST_PIXELS = 100e6;

const FILTERS = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight: (x) => {
      const a = -0.5, d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

const rounded = (value) => Math.floor(value + 0.5);

/** Return width and height that a picture is scaled to before anything is cut off. */
export function scaledSize(width, height, pre) {
  if (pre.resize === "squash") return [pre.width, pre.height];
  const across = rounded(pre.width / pre.crop_fraction), down = rounded(pre.height / pre.crop_fraction);
  const scale = Math.max(across / width, down / height);
  return [Math.max(across, rounded(width * scale)), Math.max(down, rounded(height * scale))];
}

/** Return at which part of its size a JPEG is to be decoded: 1, 2, 4 or 8. */
export function denominator(width, height, pre, isJpeg) {
  if (!pre.reduced || !isJpeg) return 1;
  const [across, down] = scaledSize(width, height, pre);
  return [8, 4, 2].find((part) => width >= 2 * part * across && height >= 2 * part * down) ?? 1;
}

/** Return for each target pixel the first source pixel and the weights in fixed point. */
function coefficients(inSize, in0, in1, outSize, filter) {
  const scale = (in1 - in0) / outSize, filterScale = Math.max(scale, 1), support = filter.support * filterScale;
  return Array.from({ length: outSize }, (_, out) => {
    const centre = in0 + (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(inSize, Math.trunc(centre + support + 0.5));
    const exact = [];
    for (let at = first; at < last; at++) exact.push(filter.weight((at - centre + 0.5) * (1 / filterScale)));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    const weights = Int32Array.from(exact, (weight) => {
      const value = (sum === 0 ? weight : weight / sum) * (1 << PRECISION_BITS);
      return Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
    });
    return { first, weights };
  });
}

/**
 * Resize RGB pixels.
 *
 * @param {{data: Uint8Array, width: number, height: number}} image three bytes a pixel, row by row
 * @param {number[]} box left, top, right and bottom of the part that is resized, in pixels and fractions
 */
export function resize(image, width, height, interpolation, box = [0, 0, image.width, image.height]) {
  const [left, top, right, bottom] = box;
  if (image.width === width && image.height === height && left === 0 && top === 0 && right === width && bottom === height) {
    return image;
  }
  if (interpolation === "nearest") return nearest(image, width, height, box);
  const filter = FILTERS[interpolation];
  let current = image, [y0, y1] = [top, bottom];
  if (width !== image.width || left !== 0 || right !== width) {
    current = resizeAcross(image, coefficients(image.width, left, right, width, filter));
  }
  if (height !== image.height || y0 !== 0 || y1 !== height) {
    current = resizeDown(current, coefficients(image.height, y0, y1, height, filter));
  }
  return current;
}

function resizeAcross(image, columns) {
  const data = new Uint8ClampedArray(columns.length * image.height * 3);
  for (let y = 0, to = 0; y < image.height; y++) {
    const row = y * image.width * 3;
    for (const { first, weights } of columns) {
      let red = 1 << (PRECISION_BITS - 1), green = red, blue = red, from = row + first * 3;
      for (let k = 0; k < weights.length; k++, from += 3) {
        const weight = weights[k];
        red += image.data[from] * weight;
        green += image.data[from + 1] * weight;
        blue += image.data[from + 2] * weight;
      }
      data[to++] = red >> PRECISION_BITS;
      data[to++] = green >> PRECISION_BITS;
      data[to++] = blue >> PRECISION_BITS;
    }
  }
  return { data, width: columns.length, height: image.height };
}

function resizeDown(image, rows) {
  const stride = image.width * 3, data = new Uint8ClampedArray(rows.length * stride), sums = new Float64Array(stride);
  rows.forEach(({ first, weights }, y) => {
    sums.fill(1 << (PRECISION_BITS - 1));
    for (let k = 0; k < weights.length; k++) {
      const from = (first + k) * stride, weight = weights[k];
      for (let x = 0; x < stride; x++) sums[x] += image.data[from + x] * weight;
    }
    for (let x = 0; x < stride; x++) data[y * stride + x] = sums[x] >> PRECISION_BITS;
  });
  return { data, width: image.width, height: rows.length };
}

/** Return the source pixel of each target pixel; the position is summed up step by step, as Pillow does it. */
function positions(inSize, in0, in1, outSize) {
  const scale = (in1 - in0) / outSize;
  let position = in0 + scale * 0.5;
  return Array.from({ length: outSize }, () => {
    const found = Math.min(inSize - 1, Math.floor(position));
    position += scale;
    return found;
  });
}

function nearest(image, width, height, [left, top, right, bottom]) {
  const columns = positions(image.width, left, right, width), rows = positions(image.height, top, bottom, height);
  const data = new Uint8ClampedArray(width * height * 3);
  let to = 0;
  for (const row of rows) {
    for (const column of columns) {
      const from = (row * image.width + column) * 3;
      data[to++] = image.data[from];
      data[to++] = image.data[from + 1];
      data[to++] = image.data[from + 2];
    }
  }
  return { data, width, height };
}

/** Average blocks of pixels, as a JPEG decoder that decodes at a part of the size nearly does. */
export function averaged(image, part) {
  const width = Math.ceil(image.width / part), height = Math.ceil(image.height / part);
  const data = new Uint8ClampedArray(width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const right = Math.min(image.width, (x + 1) * part), bottom = Math.min(image.height, (y + 1) * part);
      let red = 0, green = 0, blue = 0;
      for (let row = y * part; row < bottom; row++) {
        for (let column = x * part; column < right; column++) {
          const from = (row * image.width + column) * 3;
          red += image.data[from];
          green += image.data[from + 1];
          blue += image.data[from + 2];
        }
      }
      const count = (right - x * part) * (bottom - y * part);
      data[to++] = rounded(red / count);
      data[to++] = rounded(green / count);
      data[to++] = rounded(blue / count);
    }
  }
  return { data, width, height };
}

/** Bring decoded RGB pixels to the model's size. */
export function prepared(image, pre, isJpeg) {
  const { width, height } = image, part = denominator(width, height, pre, isJpeg);
  const [across, down] = scaledSize(width, height, pre);
  if (across * down > LARGEST_PIXELS) throw new Error("the image is too thin to be scaled");
  const scaled = resize(part === 1 ? image : averaged(image, part), across, down, pre.interpolation, [
    0, 0, width / part, height / part,
  ]);
  if (pre.resize === "squash") return scaled.data;
  const left = Math.floor((across - pre.width) / 2), top = Math.floor((down - pre.height) / 2);
  const data = new Uint8ClampedArray(pre.width * pre.height * 3);
  for (let y = 0; y < pre.height; y++) {
    const from = ((top + y) * across + left) * 3;
    data.set(scaled.data.subarray(from, from + pre.width * 3), y * pre.width * 3);
  }
  return data;
}

/** Decode an image file: RGB, upright, transparent pixels on white, colour profiles ignored. */
export async function decoded(blob) {
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none",
    imageOrientation: "from-image",
    premultiplyAlpha: "none",
  });
  const { width, height } = bitmap;
  if (width * height > LARGEST_PIXELS) throw new Error(`it has more than ${LARGEST_PIXELS / 1e6} million pixels`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data, data = new Uint8ClampedArray(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const alpha = rgba[from + 3];
    if (alpha === 255) {
      data[to++] = rgba[from];
      data[to++] = rgba[from + 1];
      data[to++] = rgba[from + 2];
    } else {
      for (let channel = 0; channel < 3; channel++) {
        data[to++] = rounded((rgba[from + channel] * alpha + 255 * (255 - alpha)) / 255);
      }
    }
  }
  return { data, width, height };
}

/** Tell a JPEG by its first bytes. */
export async function isJpeg(blob) {
  const head = new Uint8Array(await blob.slice(0, 3).arrayBuffer());
  return head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff;
}

/** Return what the graph takes of prepared pixels: their bytes, or normalised float32 channel by channel. */
export function encoded(pixels, input, height, width) {
  if (input.normalization_in_graph) return Uint8Array.from(pixels);
  const { mean, std } = input.normalization, plane = height * width;
  const count = pixels.length / (plane * 3), values = new Float32Array(pixels.length);
  for (let image = 0; image < count; image++) {
    for (let channel = 0; channel < 3; channel++) {
      const middle = Math.fround(Math.fround(mean[channel]) * 255), spread = Math.fround(Math.fround(std[channel]) * 255);
      for (let at = 0; at < plane; at++) {
        const value = pixels[(image * plane + at) * 3 + channel];
        values[(image * 3 + channel) * plane + at] = Math.fround(value - middle) / spread;
      }
    }
  }
  return values;
}
