// The package's worker, broken on purpose: `?write=2` stops the engine in its second write, as a bug of ours would;
// `?close=2` ends the whole worker there, as a browser does that needs its memory; `?ahead=300000` is on a device whose
// clock is so many milliseconds ahead.

import "./broken.js";
import "/dist/worker.js";
