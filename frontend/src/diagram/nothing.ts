/** Stands in for a library that diagrams do without. */
export default class Nothing {}
