/** A function for the tests of the functions host: does not even load. */
throw new Error("broken on purpose");
