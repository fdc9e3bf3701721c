// The package's worker, broken on purpose: `?write=2` stops the engine in its second write, as a bug of ours would;
// `?close=2` ends the whole worker there, as a browser does that needs its memory.

import "./broken.js";
import "/dist/worker.js";
