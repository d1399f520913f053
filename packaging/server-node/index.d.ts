/** The path of the program `hither` for this machine. Throws if there is none, and says what to do. */
export declare function binary(): string;
